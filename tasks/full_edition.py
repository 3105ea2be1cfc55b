"""What the full editions share: a data set that a person downloads, local checkpoints, published calibration lists."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from vitptq.bench.contracts.locations import OWN_CHECKPOINTS, checkpoint_root, data_root
from vitptq.bench.contracts.task import ModelCard, Progress
from vitptq.bench.errors import Missing
from vitptq.tasks import own_checkpoints
from vitptq.tasks.checkpoints import load_checkpoint
from vitptq.tasks.file_task import FileTask
from vitptq.tasks.own_checkpoints import OwnCheckpoint
from vitptq.tasks.published_lists import SEEDS

Lists = Callable[[int], Sequence[str]]
"""Returns the names of a seed's calibration list."""


class FullTask(FileTask):
    """The real data set; placed before the class that reads its layout."""

    edition: ClassVar[str] = "full"
    data_folder: ClassVar[str]
    """The data set's folder in the folder of the data sets."""

    def __init__(self, *, root: Path | None, checkpoints: Path | None, lists: Lists, **reading: Any) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; see the layout's class."""
        super().__init__(**reading)
        self._root = root
        self._checkpoints = checkpoints
        self._lists = lists

    @property
    def folder(self) -> Path:
        """Return the folder of the data set."""
        return (self._root or data_root()) / self.data_folder

    @property
    def checkpoints(self) -> Path:
        """Return the folder of local checkpoints."""
        return checkpoint_root(self._checkpoints, self._root)

    @property
    def own_checkpoints(self) -> Mapping[str, OwnCheckpoint]:
        """Return the checkpoints that `checkpoints.toml` describes, by name."""
        return own_checkpoints.read(
            self.checkpoints / OWN_CHECKPOINTS, self.name, self.published_models(), self.ranking_metric.name
        )

    def models(self) -> Mapping[str, ModelCard]:
        """Return the published models, and the laboratory's own."""
        return {**self.published_models(), **{name: own.card() for name, own in self.own_checkpoints.items()}}

    def checkpoint_file(self, model: str) -> Path:
        """Return where the model's checkpoint is, or belongs."""
        self.card(model)
        own = self.own_checkpoints.get(model)
        return self.published_file(model) if own is None else self.checkpoints / own.file

    def checkpoint_digest(self, model: str) -> str | None:
        """Return the first digits of the sha256 that the file must have; None where none is published."""
        own = self.own_checkpoints.get(model)
        return self.published_digest(model) if own is None else own.sha256

    def missing_checkpoint(self, model: str) -> str:
        """Say where the checkpoint is published, or who describes it."""
        own = self.own_checkpoints.get(model)
        if own is None:
            return self.published_source(model)
        file = self.checkpoints / own.file
        return f"{file} is not there, {self.checkpoints / OWN_CHECKPOINTS} describes it as {model}: copy it there"

    def float_model(self, model: str) -> nn.Module:
        """Build the model and load its checkpoint strictly."""
        own = self.own_checkpoints.get(model)
        if own is None:
            return self.published_model(model)
        file = self.checkpoint_file(model)
        if not file.exists():
            raise Missing(self.missing_checkpoint(model))
        network = self.own_model(own)
        load_checkpoint(network, file, own.sha256, own_checkpoints.without_wrapper)
        return network

    @abstractmethod
    def published_models(self) -> Mapping[str, ModelCard]:
        """Return the published models by name."""

    @abstractmethod
    def published_file(self, model: str) -> Path:
        """Return where the checkpoint of a published model is, or belongs."""

    @abstractmethod
    def published_source(self, model: str) -> str:
        """Say in one sentence where the checkpoint of a published model comes from."""

    @abstractmethod
    def published_model(self, model: str) -> nn.Module:
        """Build a published model with its weights, checked."""

    def published_digest(self, model: str) -> str | None:
        """Return the first digits of the sha256 of a published model's file; None where none is published."""
        return None

    @abstractmethod
    def own_model(self, own: OwnCheckpoint) -> nn.Module:
        """Build the model that an entry describes, with any weights."""

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: a person downloads the data set (`problems` says how)."""

    @property
    def calibration_seeds(self) -> Sequence[int]:
        """Return the seeds that have a published list."""
        return SEEDS

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the whole published list of one seed."""
        return self._lists(seed)
