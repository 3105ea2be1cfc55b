"""A task: models, calibration sets, evaluation that yields evidence, and scores computed from that alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the board reads what a task declares, and torch takes seconds to import
    import torch
    from torch import Tensor, nn

    from vitptq.bench.contracts.method import Calibration, InputSpec

Evidence = Mapping[str, NDArray[Any]]
"""Named arrays from which a task recomputes its scores without the model."""


Resampler = Callable[[NDArray[np.int64]], Mapping[str, NDArray[np.float64]]]
"""From how often each image is drawn, (resamples, images), to the scores of each resample: (resamples,) by metric name,
in percent. Drawing every image once gives the scores of the evidence."""


Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A score that a task reports, in percent, higher is better. Records keep it, so that the board needs no task."""

    name: str
    """Its key in the scores."""
    title: str
    """Its name for people: "Top-1 accuracy"."""
    proportion: bool = False
    """It is the share of the images that are right, so that one score already has the interval of a proportion."""
    ranks: bool = False
    """Ranks the methods, and is what the float gate compares. Where a task marks none, its first metric does."""
    detail: bool = False
    """Shown on the pages of models and runs and in the data files only, not beside the ranking score everywhere."""


def ranking(metrics: Sequence[Metric]) -> Metric:
    """Return the metric that ranks methods.

    >>> ranking([Metric("macc", "Mean class accuracy"), Metric("miou", "Mean IoU", ranks=True)]).name
    'miou'
    """
    return next((metric for metric in metrics if metric.ranks), metrics[0])


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
    optional: bool = False
    """It needs an extra of the set-up; a task is ready without it."""
    groups: tuple[str, ...] = ()
    """Wider families that the model belongs to; the filter `family=` finds it by these names too."""


@dataclass(frozen=True, slots=True)
class Lack:
    """Something without which a run cannot start."""

    text: str
    """One sentence, with the next step."""
    bytes: int = 0
    """Size of what has to be fetched; 0 where that is unknown, or nothing has to be."""


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
    """At least one."""

    @property
    def ranking_metric(self) -> Metric:
        """Return the metric that ranks methods and that the float gate compares."""
        return ranking(self.metrics)

    @property
    @abstractmethod
    def data_version(self) -> str:
        """Pin the evaluation data: part of a cell's identity."""

    @abstractmethod
    def models(self) -> Mapping[str, ModelCard]:
        """Return the models by name. Reads no data set and loads no weights."""

    @abstractmethod
    def problems(self, model: str) -> list[str]:
        """Say what keeps a run of `model` from starting here: one sentence each, with the next step.

        Data that `prepare` generates is no problem while it is not there.
        """

    def lacks(self, models: Iterable[str]) -> list[Lack]:
        """Return all that keeps a run of any of the models from starting here, with its size; each is named once."""
        return [Lack(text) for text in dict.fromkeys(text for model in models for text in self.problems(model))]

    def room_for_images(self, model: str, calibration_size: int, seed: int) -> Mapping[Path, int]:
        """Return the folders in which a run keeps decoded images, with about how many bytes; empty where it does not.

        `calibration_size` is 0 where the method gets none.
        """
        return {}

    @abstractmethod
    def prepare(self, progress: Progress | None = None) -> None:
        """Make the data ready (generate the embedded data; nothing where the data must be downloaded by a person)."""

    def preload(self, model: str, progress: Progress | None = None) -> None:  # noqa: B027  most tasks need nothing
        """Make ready what every evaluation reads, so that its time is not measured as a model's."""

    def seconds_waited(self) -> float:
        """Return how long evaluations of this process have waited for images so far: that is no model's time either."""
        return 0.0

    def drop_images(self) -> None:  # noqa: B027  most tasks keep no image
        """Drop every image that this process keeps in memory; `preload` reads them again."""

    def image_folders(self) -> Sequence[Path]:
        """Return the folders that hold images, or what they are made from: closed while a data-free method works."""
        return ()

    def data_location(self) -> str:
        """Say how many evaluation images there are on this machine, and where; asked where there are no problems."""
        return ""

    def evaluation_folders(self) -> Sequence[Path]:
        """Return the files and folders of the evaluation split: closed while any method works."""
        return ()

    def images_set_aside(self) -> AbstractContextManager[None]:
        """Keep decoded evaluation images where no module leads to them, as long as the context is open."""
        return nullcontext()

    def location(self, model: str) -> str:
        """Say where the checkpoint of `model` is on this machine; asked where there are no problems."""
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

    def real_batch(self, model: str, count: int, device: torch.device) -> Any:
        """Return a few real images as one batch, as `forward` takes it: an audit runs on them after the evaluation.

        Evaluation images where they are at hand; here those with which the first published calibration list begins.
        """
        return next(iter(self.calibration(model, count, 0, device).batches()))

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

    def correct(self, evidence: Evidence) -> NDArray[np.bool_] | None:
        """Return per image whether the prediction is right; None where a score is not a share of the images."""
        return None

    def resampler(self, evidence: Evidence) -> Resampler | None:
        """Return what scores resampled image sets; None where all scores are shares of the images (`correct`).

        What does not depend on the resample (matching detections, say) is done here, once. Scores that are details may
        be left out. With this or `correct` the board knows how scores vary with the images, and compares methods.
        """
        return None

    def truth(self, evidence: Evidence) -> str:
        """Return a hash of the ground truth that the evidence carries; it must be one per data version."""
        return ""

    def own_truth(self) -> str:
        """Return `truth` of this edition's evaluation data, found without a model; empty where it is not here."""
        return ""

    def scenes(self, evidence: Evidence) -> Sequence[Scene]:
        """Return a few evaluation images with what the model found in them, where the images may be published.

        Empty for a task whose predictions are nothing to look at, and where the images are not on this machine.
        """
        return ()

    @abstractmethod
    def count(self, evidence: Evidence) -> int:
        """Return how many images the evidence covers."""
