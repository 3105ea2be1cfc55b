"""Losses of block reconstruction. A loss is made for one unit and then called at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Terms = Tensor | Mapping[str, Tensor]
"""The value of a loss, a mean over the images; or several named terms, which are added."""


@dataclass(frozen=True)
class StepTensors:
    """What a loss sees of one mini-batch."""

    outputs: list[Tensor]
    """The tensors that the quantised unit puts out, images first; for a block usually one."""
    targets: list[Tensor]
    """The same of the float unit on the float input."""
    indices: Tensor
    """The samples' numbers, in the order of the calibration images where the unit is called once per image; CPU."""
    inner: Mapping[str, Tensor] = field(default_factory=dict)
    """Outputs of the modules that the loss asked for with `Unit.tap`, in the quantised unit."""
    inner_targets: Mapping[str, Tensor] = field(default_factory=dict)
    """The same in the float unit on the float input."""
    indices_there: Tensor | None = None
    """`indices` on the device of the other tensors, where looking them up makes no GPU wait."""

    @property
    def device_indices(self) -> Tensor:
        """Return the samples' numbers on the device, or where they are."""
        return self.indices if self.indices_there is None else self.indices_there

    @property
    def output(self) -> Tensor:
        """Return the unit's first output."""
        return self.outputs[0]

    @property
    def target(self) -> Tensor:
        """Return the first target."""
        return self.targets[0]


Loss = Callable[[StepTensors], Terms]
LossFor = Callable[[Any], Loss]
"""Called with a `Unit` before it is trained; returns its loss."""


@dataclass(frozen=True)
class RenewedLoss:
    """A loss that is made anew while its unit is trained; with `normalise`, its first values are taken anew, too."""

    loss: Loss
    renew: Callable[[int], None]
    """Called in front of a step with the renewal's number, from 0; the unit is in its training form."""
    steps: tuple[int, ...]
    """In front of which steps, from 1."""
    judge: Loss
    """What is compared before and after the training, because values of the loss cannot be."""

    def __call__(self, seen: StepTensors) -> Terms:
        """Return the loss as it is now."""
        return self.loss(seen)


def channel_axis(x: Tensor, module: nn.Module | None = None) -> int:
    """Return the axis of the channels: 1 of a map that a convolution puts out, else the last."""
    return 1 if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and x.ndim == 4 else -1


def squared_error(unit: Any) -> Loss:
    """Sum of d^2 over channels, mean over images and positions (QDrop, BRECQ and AdaRound; the mean of all outputs)."""
    return power_error(2.0)(unit)


def power_error(power: float) -> LossFor:
    """Sum of |d|^power over channels, mean over images and positions."""

    def make(unit: Any) -> Loss:
        def loss(seen: StepTensors) -> Tensor:
            errors = []
            for out, target in zip(seen.outputs, seen.targets, strict=True):
                if power == 2:  # one pass forward, one backward
                    total = nn.functional.mse_loss(out, target, reduction="sum")
                else:
                    total = (out - target).abs().pow(power).sum()
                errors.append(total / (out.numel() / out.shape[channel_axis(out, unit.module)]))
            return torch.stack(errors).mean()

        return loss

    return make


def weighted_error(weights: Callable[[Any], Callable[[Tensor], Tensor]]) -> LossFor:
    """Mean of d^2 H over everything; `weights(unit)` returns what gives H for samples' numbers, broadcastable."""

    def make(unit: Any) -> Loss:
        h = weights(unit)

        def loss(seen: StepTensors) -> Tensor:
            return ((seen.output - seen.target).square() * h(seen.device_indices)).mean()

        return loss

    return make


def divergence(unit: Any) -> Loss:
    """KL(softmax(y), softmax(y^)) of logits, mean over the images: for the head."""

    def loss(seen: StepTensors) -> Tensor:
        expected = seen.target.softmax(-1)
        return nn.functional.kl_div(seen.output.log_softmax(-1), expected, reduction="batchmean")

    return loss


class PerSample:
    """A tensor per sample, given batch by batch (shapes may differ between batches), looked up by sample numbers."""

    def __init__(self, parts: Sequence[Tensor], *, join: bool = True) -> None:
        """Take the batches; joined where their shapes allow, which needs their memory twice for a moment.

        On a GPU they are joined in any case: looking up part by part, it would wait for the numbers.
        """
        self.parts = list(parts)
        self.starts = torch.tensor([0, *[len(part) for part in self.parts]]).cumsum(0)
        join = join or self.parts[0].device.type != "cpu"
        alike = join and len({tuple(part.shape[1:]) for part in self.parts}) == 1
        self.joined = torch.cat(self.parts) if alike else None

    def __call__(self, indices: Tensor) -> Tensor:
        """Return the rows of these samples, (len(indices), ...)."""
        if self.joined is not None:
            return self.joined[indices.to(self.joined.device)]
        indices = indices.to(self.starts.device)
        places = torch.searchsorted(self.starts, indices, right=True) - 1
        pairs = zip(places.tolist(), (indices - self.starts[places]).tolist(), strict=True)
        return torch.stack([self.parts[place][row] for place, row in pairs])
