"""What the embedded editions share: data generated here, and weights and calibration lists that the project ships."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from vitptq.bench.contracts.locations import data_root
from vitptq.bench.contracts.task import ModelCard, Progress
from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.families import family_groups
from vitptq.tasks.file_task import FileTask
from vitptq.tasks.mini.data import compose_digit, material
from vitptq.tasks.mini.data.generated import CALIBRATION_SEEDS, Counts, DataError, GeneratedData
from vitptq.tasks.mini.models.shipped import PackageMissing, ShippedModel, WeightsError

TOLERANCE = 0.3


class MiniTask(FileTask):
    """Data, models and lists of an embedded edition; placed before the class that reads the data set's layout."""

    edition: ClassVar[str] = "mini"
    data: ClassVar[GeneratedData]
    true_labels: ClassVar[str]
    """`truth` of the standard data, so that labels can be compared where it was never generated."""

    def __init__(self, *, root: Path | None = None, counts: Counts | None = None, **reading: Any) -> None:
        """Use `root` in place of `VITPTQ_DATA`; other `counts` make a data set that no published score belongs to."""
        self._root = root
        self._counts = counts or self.data.standard
        super().__init__(images=self._counts.val, **reading)

    @property
    @abstractmethod
    def entries(self) -> Mapping[str, ShippedModel]:
        """Return the task's models, also those that are not trained yet."""

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by the fingerprint of its decoded pixels and annotations."""
        counts = self._counts
        return f"mini-{self.data.fingerprint if self._is_standard else f'{counts.train}-{counts.val}'}"

    def own_truth(self) -> str:
        """Return the pinned hash of the standard data's labels; empty for other counts."""
        return self.true_labels if self._is_standard else ""

    @property
    def generated(self) -> Path:
        """Return the generated folder; another version of the data is another folder."""
        version = self.data_version.removeprefix("mini-")[:12]
        return (self._root or data_root()) / "mini" / f"{self.data.kind}-{version}"

    @property
    def folder(self) -> Path:
        """Return the generated folder."""
        return self.generated

    @property
    def missing_data(self) -> str:
        """Say how to generate the data."""
        return f"The embedded data is not in {self.generated} yet: vitptq run generates it before the first cell"

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return f"tasks/mini/data/{self.data.lists.name}"

    def models(self) -> Mapping[str, ModelCard]:
        """Return the models whose weights are published."""
        return {name: _card(entry) for name, entry in self.entries.items() if _published(entry)}

    def card(self, model: str) -> ModelCard:
        """Return the card of `model`; one that is defined but not trained yet is Missing, not unknown."""
        if not _published(self._entry(model)):
            raise Missing(self.missing_checkpoint(model))
        return _card(self._entry(model))

    def prepare(self, progress: Progress | None = None) -> None:
        """Generate the data where it is not yet."""
        try:
            self.data.generate(self.generated, counts=self._counts, progress=progress)
        except DataError as error:
            raise BadInput(str(error)) from error

    def drop_images(self) -> None:
        """Drop the decoded images and what they are made from."""
        super().drop_images()
        material.drop()
        compose_digit.photographs_at_scales.cache_clear()

    def image_folders(self) -> Sequence[Path]:
        """Return the generated folder and those of the material."""
        return (self.generated, *super().image_folders(), *material.sources())

    def data_problems(self) -> list[str]:
        """Say what is wrong with the generated data; data that a run generates first is no problem."""
        if not self.generated.exists():
            return []
        try:
            self.data.check(self.generated, counts=self._counts)
        except DataError as error:
            return [str(error)]
        return super().data_problems()

    def data_location(self) -> str:
        """Say how many evaluation images there are and where, or that a run generates them."""
        if self.generated.exists():
            return super().data_location()
        return f"a run first generates {self._counts.val:,} evaluation images in {self.generated}"

    @property
    def calibration_seeds(self) -> Sequence[int]:
        """Return the seeds that have a list."""
        return CALIBRATION_SEEDS

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the published list of one seed; data of other counts has lists of its own, drawn in the same way."""
        lists = _published_lists(self.data.lists) if self._is_standard else self.data.calibration_lists(self._counts)
        if str(seed) not in lists:
            raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(sorted(lists))}")
        return [str(name) for name in lists[str(seed)]]

    def checkpoint_file(self, model: str) -> Path:
        """Return the shipped weights."""
        return self._entry(model).weights

    def checkpoint_digest(self, model: str) -> str | None:
        """Return the sha256 of the shipped weights."""
        return self._entry(model).sha256

    def checkpoint_problems(self, model: str) -> list[str]:
        """Say what is missing or wrong of the shipped weights, and of what belongs to them."""
        return super().checkpoint_problems(model) + self._entry(model).problems()

    def missing_checkpoint(self, model: str) -> str:
        """Say where the weights should be."""
        return f"{self.checkpoint_file(model)} is missing: restore it from the repository"

    def float_model(self, model: str) -> nn.Module:
        """Build the model with the shipped weights; a file with another hash is refused."""
        try:
            return self._entry(model).load()
        except WeightsError as error:
            absent = isinstance(error, PackageMissing) or not self.checkpoint_file(model).is_file()
            kind = Missing if absent else BadInput
            raise kind(str(error)) from error

    @property
    def _is_standard(self) -> bool:
        return self._counts == self.data.standard

    def _entry(self, model: str) -> ShippedModel:
        if model not in self.entries:
            raise UnknownName("model", model, self.entries)
        return self.entries[model]


def _card(entry: ShippedModel) -> ModelCard:
    return ModelCard(
        name=entry.name,
        family=entry.family,
        checkpoint=entry.checkpoint,
        reference=entry.scores,
        tolerance=TOLERANCE,
        source=f"tasks/mini/weights/{entry.trained_as}.json",
        note=entry.note,
        optional=entry.optional,
        groups=family_groups(entry.family),
    )


def _published(entry: ShippedModel) -> bool:
    return entry.weights.with_suffix(".json").is_file()


@cache
def _published_lists(path: Path) -> dict[str, list[Any]]:
    if not path.is_file():
        raise Missing(f"{path} is missing: restore it from the repository")
    lists: dict[str, list[Any]] = json.loads(path.read_text(encoding="utf-8"))["lists"]
    return lists
