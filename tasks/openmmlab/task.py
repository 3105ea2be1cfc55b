"""What tasks on models of OpenMMLab share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.contracts.task import Lack
from vitptq.bench.errors import Missing
from vitptq.tasks.file_task import FileTask
from vitptq.tasks.openmmlab import libraries
from vitptq.tasks.openmmlab.configs import Config
from vitptq.tasks.openmmlab.libraries import Scope
from vitptq.tasks.openmmlab.models import build, input_spec


class OpenMMLabTask(FileTask):
    """A task whose models come from configurations of mmdet or mmseg."""

    scope: ClassVar[Scope]
    """The library that builds the models."""

    @abstractmethod
    def config(self, model: str) -> Config:
        """Return the model's config, as its library reads it."""

    @abstractmethod
    def input_size(self, model: str) -> tuple[int, int]:
        """Return the usual (height, width) of what the model reads."""

    def problems(self, model: str) -> list[str]:
        """Say what is missing on this machine to run `model`: one sentence each, with the next step."""
        return self.library_problems() + super().problems(model)

    def lacks(self, models: Iterable[str]) -> list[Lack]:
        """Return all that keeps a run of any of the models from starting here, also the libraries."""
        return [Lack(text) for text in self.library_problems()] + super().lacks(models)

    def checkpoint_bytes(self, model: str) -> int:
        """Return the size of the model's parameters; 0 where its library is not here to build it."""
        if self.library_problems():
            return 0
        network = build(self.config(model), self.scope)
        return sum(parameter.nbytes for parameter in network.parameters())

    def library_problems(self) -> list[str]:
        """Say what of OpenMMLab is not installed, or cannot be imported."""
        try:
            libraries.require(self.scope)
        except Missing as error:
            return [str(error)]
        return []

    def data_problems(self) -> list[str]:
        """Say what is missing or wrong of the images; without the libraries, only what is missing."""
        if self.library_problems() and all(path.exists() for path in self.needed):
            return []
        return super().data_problems()

    def input(self, model: str) -> InputSpec:
        """Return shape and normalisation of the model's input; the full edition's images vary in size."""
        return input_spec(self.config(self.card(model).name), self.input_size(model))
