"""The contracts between the harness, the methods and the tasks. Methods and tasks import this; never the reverse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from bench.bits import BitSpec
from bench.errors import BadInput

Fidelity = Literal["reference", "parity", "paper", "inferred"]
Category = Literal["float", "ptq", "data-free"]
Evidence = Mapping[str, NDArray[Any]]
"""Named arrays from which a task recomputes its scores without the model."""
Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


class Quantizer(nn.Module, ABC):
    """Tensor in, tensor on the grid out. Everything that is quantised goes through one of these, so it can be audited.

    While the harness evaluates (`kept_weights`), a parameter of the model is quantised once and kept.
    """

    bits: int

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` rounded to the grid (same shape)."""
        if _keeping is None or not isinstance(x, nn.Parameter):
            return self.quantise(x)
        key = (id(self), x.data_ptr())
        if key not in _keeping:
            _keeping[key] = self.quantise(x)
        return _keeping[key]

    @abstractmethod
    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` rounded to the grid, with a straight-through gradient where gradients are on."""

    @abstractmethod
    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (groups, levels)."""

    @abstractmethod
    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (groups, values), so that row g holds what row g of `grid()` must contain."""

    @property
    @abstractmethod
    def granularity(self) -> str:
        """Name what shares one grid: tensor, channel, head or token."""


_keeping: dict[tuple[int, int], Tensor] | None = None


@contextmanager
def kept_weights() -> Iterator[None]:
    """Quantise each weight only once inside: for evaluation, where no weight and no quantizer changes any more."""
    global _keeping
    _keeping = {}
    try:
        yield
    finally:
        _keeping = None


Report = Callable[[str, int, int], None]
"""Called with (step, done, in all)."""


@dataclass
class Heard:
    """What a method told while it quantised."""

    report: Report | None = None
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    images: dict[str, NDArray[Any]] = field(default_factory=dict)


_heard = Heard()


@contextmanager
def listening(report: Report | None = None, folder: Path | None = None) -> Iterator[Heard]:
    """Collect what a method tells inside: its progress, notes and details. `folder` is where it may keep its state."""
    global _heard
    outer, _heard = _heard, Heard(report, folder)
    try:
        yield _heard
    finally:
        _heard = outer


def report(step: str, done: int, total: int) -> None:
    """Show what a long quantisation does now: `step` in a few words, `done` of `total`. Costs next to nothing."""
    if _heard.report is not None:
        _heard.report(step, done, total)


def work_folder() -> Path | None:
    """Return the cell's folder for what a killed quantisation can go on from; None where nothing is kept.

    It need not exist yet. It is removed once the cell has a score.
    """
    return _heard.folder


def note(text: str) -> None:
    """Add a note to the record, once. Only what the same cell would say again: results are compared by it, too."""
    if text not in _heard.notes:
        _heard.notes.append(text)


def note_details(key: str, value: Any) -> None:
    """Keep figures or tables of this run in the record, under details["method"][key]: plain JSON values.

    A list of mappings is a table on the run's page, and so is {"text": what a reader must know, "rows": such a list}.
    """
    _heard.details[key] = value


def keep_images(name: str, images: NDArray[Any]) -> None:
    """Keep images that the method made beside the evidence, and show them on the run's page.

    `images` is uint8, (batches, images, height, width, 3); `name` is one word, the array's name in the file.
    """
    if images.dtype != "uint8" or images.ndim != 5 or images.shape[-1] != 3 or not name.isidentifier():
        raise BadInput(
            f"{images.dtype} {images.shape} called {name!r}: expected uint8 (batches, images, H, W, 3), a word"
        )
    _heard.images[name] = images


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


@dataclass(frozen=True, slots=True)
class Metric:
    """A score that a task reports, in percent, higher is better. The first of a task's metrics ranks."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One architecture with one checkpoint, pinned, and the float score that it must reproduce."""

    name: str
    family: str
    checkpoint: str
    """What pins the weights: a sha256, or an exact timm tag."""
    reference: Mapping[str, float]
    """Published (or, for embedded models, measured at training) float scores in percent by metric name."""
    tolerance: float
    """Largest accepted distance of the measured float score from the reference, in points."""
    source: str = ""
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    """Wider families that the model belongs to; the filter `family=` finds it by these names too."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is painted over an image: a class per pixel, and labelled boxes."""

    classes: NDArray[np.uint8]
    """(height, width); 0 where nothing is painted."""
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    """(x, y, width, height) in pixels."""
    labels: tuple[str, ...] = ()
    """One per box."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One evaluation image with its ground truth and what a model found, for people to look at."""

    title: str
    image: NDArray[np.uint8]
    """(height, width, 3), RGB."""
    truth: Drawing
    found: Drawing


class Task(ABC):
    """One task in one edition: models, calibration data, evaluation that yields evidence, and a pure score."""

    name: ClassVar[str]
    edition: ClassVar[str]
    title: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]

    @property
    @abstractmethod
    def data_version(self) -> str:
        """Pin the evaluation data: part of a cell's identity."""

    @abstractmethod
    def models(self) -> Mapping[str, ModelCard]:
        """Return the models by name. Reads no data set and loads no weights."""

    @abstractmethod
    def problems(self, model: str) -> list[str]:
        """Say what is missing on this machine to run `model`: one sentence each, with the next step."""

    @abstractmethod
    def prepare(self, progress: Progress | None = None) -> None:
        """Make the data ready (generate the embedded data; nothing where the data must be downloaded by a person)."""

    def warm(self, model: str) -> None:  # noqa: B027  most tasks have nothing to do
        """Read into memory what every evaluation needs, so that its time is not measured as a model's."""

    def forget(self) -> None:  # noqa: B027  most tasks keep no image
        """Drop every image that this process keeps in memory; `warm` reads them again."""

    def image_folders(self) -> Sequence[Path]:
        """Return the folders that hold images, or what they are made from: closed while a data-free method works."""
        return ()

    def place(self, model: str) -> str:
        """Say where data and checkpoint of `model` are on this machine."""
        return ""

    @abstractmethod
    def load(self, model: str, device: torch.device) -> nn.Module:
        """Return the float model in eval mode, its weights checked."""

    @abstractmethod
    def calibration_names(self, size: int, seed: int) -> Sequence[str]:
        """Return the published index list: nested in `size`, one draw per `seed`, from the training split."""

    @abstractmethod
    def calibration(self, model: str, size: int, seed: int, device: torch.device) -> Calibration:
        """Return the calibration set of `calibration_names(size, seed)`."""

    @abstractmethod
    def input(self, model: str) -> InputSpec:
        """Describe the input of `model`."""

    @abstractmethod
    def example(self, model: str, device: torch.device) -> Any:
        """Return a batch of one evaluation-shaped input for the audit (what `batches()` would yield)."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Any) -> Tensor | tuple[Tensor, ...]:
        """Return the differentiable outputs of `model` for a batch of calibration or example input."""

    @abstractmethod
    def details(self, model: str) -> dict[str, Any]:
        """Return what the record should keep of the data: transform, checkpoint file's hash, calibration source."""

    @abstractmethod
    def evaluate(
        self, model: nn.Module, name: str, device: torch.device, progress: Progress
    ) -> dict[str, NDArray[Any]]:
        """Run `model` over the evaluation images and return the evidence."""

    @abstractmethod
    def score(self, evidence: Evidence) -> dict[str, float]:
        """Recompute the scores (percent) from evidence alone."""

    def right(self, evidence: Evidence) -> NDArray[np.bool_] | None:
        """Return per image whether the prediction is right; None where a score is not a share of the images."""
        return None

    def truth(self, evidence: Evidence) -> str:
        """Return a hash of the ground truth that the evidence carries; it must be one per data version."""
        return ""

    def scenes(self, evidence: Evidence) -> Sequence[Scene]:
        """Return a few evaluation images with what the model found in them, where the images may be published.

        Empty for a task whose predictions are nothing to look at, and where the images are not on this machine.
        """
        return ()

    @abstractmethod
    def count(self, evidence: Evidence) -> int:
        """Return how many images the evidence covers."""
