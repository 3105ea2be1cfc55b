"""A method, and all that it is given: a calibration set, or the description of the input alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput

Fidelity = Literal["reference", "parity", "paper", "inferred"]


Category = Literal["float", "ptq", "data-free"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model's input looks like; all that a data-free method is told."""

    shape: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Calibration(ABC):
    """What a method may know of the task. Never labels, never an evaluation image."""

    input: InputSpec
    device: torch.device
    digest: str = ""
    """Hash over the calibration images' names and contents, where the task knows it; kept in the record."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Yield what the task feeds to the model, in a fixed order, the same at every call."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Any) -> Tensor | tuple[Tensor, ...]:
        """Return the differentiable outputs: logits, or a detector's or segmenter's feature and prediction tensors."""


@dataclass(frozen=True, slots=True)
class DataFree:
    """All that a data-free method is given: no image can be reached from here."""

    input: InputSpec
    device: torch.device


@dataclass(frozen=True)
class Method(ABC):
    """A PTQ method. Subclass it as a frozen dataclass: the fields are the parameters, their defaults the paper's."""

    name: ClassVar[str]
    title: ClassVar[str]
    fidelity: ClassVar[Fidelity]
    inferred: ClassVar[tuple[str, ...]] = ()
    category: ClassVar[Category] = "ptq"
    paper: ClassVar[str] = ""
    trial: ClassVar[Mapping[str, Any]] = {}
    """Parameters with which the contract test tries the method, where the defaults would take too long."""

    @abstractmethod
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return a quantised copy of `model` (float, eval mode), called like it; `model` stays as it was."""

    def notes(self) -> list[str]:
        """Return what a reader of this method's records must know, such as reduced settings."""
        return []

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values."""
        plain: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json")
        return plain

    @classmethod
    def configured(cls, parameters: Mapping[str, Any]) -> Method:
        """Build the method from plain JSON values, refusing unknown names and wrong types."""
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(parameters) - set(known))
        if unknown:
            raise BadInput(
                f"method {cls.name} has no parameter {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
            )
        try:
            method: Method = _adapter(cls).validate_python(dict(parameters))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise BadInput(f"parameters of method {cls.name}: {problems}") from None
        return method


@cache
def _adapter(cls: type[Method]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
