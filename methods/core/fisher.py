"""Gradients of the divergence of the predictions at an operator's output: a diagonal Fisher weight for its error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.errors import Unsupported
from bench.protocol import Calibration
from methods.core.explicit import Explicit

GRADIENT_BATCH = 4

GradientPoint = Literal["quantised", "float", "sampled"]


def output_gradients(
    net: Explicit, calibration: Calibration, modules: Sequence[nn.Module], point: GradientPoint
) -> list[Tensor]:
    """Return dL/dO of each module for all calibration images, in the shape of its output.

    L is the divergence of the class probabilities from those of the float model, in batches of four images, at the
    model with all its operands as they are ("quantised") or in float; or, for "sampled", the cross-entropy to a label
    drawn from the float probabilities, whose squared gradient is the true diagonal Fisher information. The graph begins
    at the outputs, and no output may depend on another.
    """
    leaves: dict[nn.Module, Tensor] = {}
    found: list[list[Tensor]] = [[] for _ in modules]

    def leave(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        leaves[module] = output.detach().requires_grad_()
        return leaves[module]

    for batch in small_batches(calibration):
        with torch.no_grad():
            net.switch(False)
            expected = logits(calibration.forward(net.model, batch)).softmax(dim=-1)
        net.switch(point == "quantised")
        handles = [module.register_forward_hook(leave) for module in modules]
        try:
            with torch.enable_grad():
                loss = _loss(logits(calibration.forward(net.model, batch)), expected, point)
        finally:
            for handle in handles:
                handle.remove()
        for parts, gradient in zip(found, torch.autograd.grad(loss, [leaves[m] for m in modules]), strict=True):
            parts.append(gradient)
    net.switch(False)
    return [torch.cat(parts) for parts in found]


def _loss(actual: Tensor, expected: Tensor, point: GradientPoint) -> Tensor:
    if point == "sampled":
        return nn.functional.cross_entropy(actual, torch.multinomial(expected, 1)[:, 0])
    return nn.functional.kl_div(actual.log_softmax(dim=-1), expected, reduction="batchmean")


def logits(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return class scores (B, classes), or say that there are none."""
    if isinstance(outputs, Tensor) and outputs.ndim == 2:
        return outputs
    raise Unsupported("the method weights errors by class probabilities, and this task's model puts out none")


def small_batches(calibration: Calibration) -> Iterator[Any]:
    """Yield the calibration images four at a time where a batch is a tensor, else as they come."""
    for batch in calibration.batches():
        yield from batch.split(GRADIENT_BATCH) if isinstance(batch, Tensor) else (batch,)


def normalised(gradient: Tensor) -> Tensor | None:
    """Return G / max|G|, which no argmax notices and which keeps G^2 from underflow; None where G says nothing."""
    largest = gradient.abs().amax()
    return gradient / largest if largest > 0 and largest.isfinite() else None
