"""What the embedded editions share: data generated here, and weights and calibration lists that the project ships."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

from torch import nn

from vitptq.bench.contracts.task import ModelCard, Progress
from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks import data_root
from vitptq.tasks.files import FileTask
from vitptq.tasks.mini import compose, material
from vitptq.tasks.mini.folder import DataError
from vitptq.tasks.mini.models import WeightsError

TOLERANCE = 0.3


class Entry(Protocol):
    """A model that the project defines; it is published once its training's facts lie beside its weights."""

    @property
    def name(self) -> str:
        """Return the model's name."""

    @property
    def weights(self) -> Path:
        """Return the file with the trained weights."""


class MiniTask(FileTask):
    """Data, models and lists of an embedded edition; placed before the class that reads the data set's layout."""

    edition: ClassVar[str] = "mini"
    generator: ClassVar[ModuleType]
    """Generates the data: has Counts, STANDARD, FINGERPRINT, CALIBRATION_LISTS, generate and calibration_lists."""
    kind: ClassVar[str]
    """First word of the generated folder's name."""
    _root: Path | None
    _counts: Any

    @property
    @abstractmethod
    def entries(self) -> Mapping[str, Entry]:
        """Return the task's models, also those that are not trained yet."""

    @abstractmethod
    def entry_card(self, model: str) -> ModelCard:
        """Return the card of a published model."""

    @abstractmethod
    def entry_model(self, model: str) -> nn.Module:
        """Build the model with its weights; WeightsError where they are not those of its card."""

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by the fingerprint of its decoded pixels and annotations."""
        return f"mini-{self.generator.FINGERPRINT if self._is_standard else f'{self._counts.train}-{self._counts.val}'}"

    @property
    def generated(self) -> Path:
        """Return the generated folder; another version of the data is another folder."""
        return (self._root or data_root()) / "mini" / f"{self.kind}-{self.data_version.removeprefix('mini-')[:12]}"

    @property
    def missing_data(self) -> str:
        """Say how to generate the data."""
        return f"The embedded data is not in {self.generated} yet: vitptq run generates it before the first cell"

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return f"tasks/mini/{self.generator.CALIBRATION_LISTS.name}"

    def models(self) -> Mapping[str, ModelCard]:
        """Return the models whose weights are published."""
        return {name: self.entry_card(name) for name, entry in self.entries.items() if _published(entry)}

    def card(self, model: str) -> ModelCard:
        """Return the card of `model`; one that is defined but not trained yet is Missing, not unknown."""
        if not _published(self._entry(model)):
            raise Missing(self.missing_checkpoint(model))
        return self.entry_card(model)

    def prepare(self, progress: Progress | None = None) -> None:
        """Generate the data where it is not yet."""
        try:
            self.generator.generate(self.generated, counts=self._counts, progress=progress)
        except DataError as error:
            raise BadInput(str(error)) from error

    def drop_images(self) -> None:
        """Drop the decoded images and what they are made from."""
        super().drop_images()
        material.forget()
        compose.photographs_at_scales.cache_clear()

    def image_folders(self) -> Sequence[Path]:
        """Return the generated folder and those of the material."""
        return (self.generated, *material.sources())

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the published list of one seed; data of other counts has lists of its own, drawn in the same way."""
        lists = (
            _published_lists(self.generator.CALIBRATION_LISTS)
            if self._is_standard
            else self.generator.calibration_lists(counts=self._counts)
        )
        if str(seed) not in lists:
            raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(sorted(lists))}")
        return [str(name) for name in lists[str(seed)]]

    def checkpoint_file(self, model: str) -> Path:
        """Return the shipped weights."""
        return self._entry(model).weights

    def missing_checkpoint(self, model: str) -> str:
        """Say where the weights should be."""
        return f"{self.checkpoint_file(model)} is missing: restore it from the repository"

    def float_model(self, model: str) -> nn.Module:
        """Build the model with the shipped weights; a file with another hash is refused."""
        try:
            return self.entry_model(model)
        except WeightsError as error:
            kind = BadInput if self.checkpoint_file(model).is_file() else Missing
            raise kind(str(error)) from error

    @property
    def _is_standard(self) -> bool:
        return bool(self._counts == self.generator.STANDARD)

    def _entry(self, model: str) -> Entry:
        if model not in self.entries:
            raise UnknownName("model", model, self.entries)
        return self.entries[model]


def _published(entry: Entry) -> bool:
    return entry.weights.with_suffix(".json").is_file()


@cache
def _published_lists(path: Path) -> dict[str, list[Any]]:
    if not path.is_file():
        raise Missing(f"{path} is missing: restore it from the repository")
    lists: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))["lists"]
    return lists
