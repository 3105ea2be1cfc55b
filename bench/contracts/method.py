"""A method, and all that it is given: a calibration set, or the description of the input alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput, invalid_fields

if TYPE_CHECKING:  # torch takes seconds to import, and the board needs only what a method declares
    import torch
    from torch import Tensor, nn

Fidelity = Literal["reference", "parity", "paper", "inferred"]


Category = Literal["float", "ptq", "data-free", "low-rank", "float-branch"]
"""Low-rank methods put weights into factors, at specs such as W32A32+lowrank60; "float-branch" has float side branches
beside quantised blocks, at specs such as W4A4+branch; all others have the float model's own products."""


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
    seed: int = 0
    """The cell's seed, for whatever a method draws; the harness fills it in."""

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
    seed: int = 0
    """The cell's seed, for whatever a method draws."""


_ALWAYS: Any = object()


def run_time(default: Any, *, neutral: Any = _ALWAYS) -> Any:
    """Declare a parameter of a method that does not change its result: `memory_mb: int = run_time(4096)`.

    It is in the record but not in the cell's identity. With `neutral`, only that one value changes nothing:
    `autocast: str = run_time("off", neutral="off")` is a part of the identity once it is not "off".
    """
    return field(default=default, metadata={"run_time": True, "neutral": neutral})


@dataclass(frozen=True)
class Method(ABC):
    """A PTQ method. Subclass it as a frozen dataclass: the fields are the parameters, their defaults the paper's."""

    name: ClassVar[str]
    title: ClassVar[str]
    fidelity: ClassVar[Fidelity]
    inferred: ClassVar[tuple[str, ...]] = ()
    parity: ClassVar[Mapping[str, Any]] = {}
    """Parameters with which a test shows that the adapter agrees with the official code: records that have them state
    the fidelity "parity", all others `fidelity`. What was compared is in `inferred`."""
    parity_test: ClassVar[str] = ""
    """The test that compares the adapter, or parts of it, with official code, such as "tests/parity/test_repq_vit.py";
    its page on the board shows it. Who states `parity` has to name one."""
    category: ClassVar[Category] = "ptq"
    dynamic: ClassVar[bool] = False
    """Whether ranges are found while the model runs. The audit then lets grids change, and the board says so."""
    paper: ClassVar[str] = ""
    seeded: ClassVar[bool] = True
    """Whether the seed decides anything: the calibration images, or what the method draws itself."""
    trial: ClassVar[Mapping[str, Any]] = {}
    """Parameters with which the contract test tries the method, where the defaults would take too long."""

    @abstractmethod
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return a quantised copy of `model` (float, eval mode), called like it; `model` stays as it was."""

    def fidelity_as_configured(self) -> Fidelity:
        """Return how well the method is known to match its source with these parameters."""
        compared = bool(self.parity) and all(getattr(self, name) == value for name, value in self.parity.items())
        return "parity" if compared else self.fidelity

    def notes(self) -> list[str]:
        """Return what a reader of this method's records must know, such as reduced settings."""
        return []

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as plain JSON values."""
        plain: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json")
        return plain

    def identity_parameters(self) -> dict[str, Any]:
        """Return the parameters that can change the result, as plain JSON values: a part of the cell's identity."""
        left_out = {f.name for f in fields(self) if _without_effect(f, getattr(self, f.name))}
        return {name: value for name, value in self.parameters().items() if name not in left_out}

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
            raise BadInput(f"parameters of method {cls.name}: {invalid_fields(error)}") from None
        return method


def _without_effect(parameter: Field[Any], value: Any) -> bool:
    neutral = parameter.metadata.get("neutral", _ALWAYS)
    return "run_time" in parameter.metadata and (neutral is _ALWAYS or bool(value == neutral))


@cache
def _adapter(cls: type[Method]) -> TypeAdapter[Any]:
    return TypeAdapter(cls)
