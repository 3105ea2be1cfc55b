"""Gradients of the divergence of the predictions at an operator's or a block's output: a Fisher weight for its error.

The divergence of predictions from the float model's is, for class logits (B, C), the Kullback-Leibler divergence. A
detector or segmenter puts out several tensors, of mixed meaning (features, scores, box offsets); there it is

    L = sum over tensors of mean_b sum_i (y_bi - f_bi)^2 / (2 v),   v = the variance of the float tensor's values,

the divergence of Gaussians around the float outputs whose variance is the tensor's own, so that a map counts as much as
another map of its size whatever its scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.prepare import PreparedModel

GRADIENT_BATCH = 4
VARIANCE_FLOOR = 1e-12
"""A constant tensor says nothing about the predictions; without the floor it would divide by 0."""

GradientPoint = Literal["quantised", "float", "sampled"]
Outputs = tuple[Tensor, ...]


def output_gradients(
    net: PreparedModel, calibration: Calibration, modules: Sequence[nn.Module], point: GradientPoint
) -> list[Tensor]:
    """Return dL/dO of each module for all calibration images, in the shape of its output.

    L is the divergence of the predictions from those of the float model, in batches of four images, at the model with
    all its operands as they are ("quantised") or in float; or, for "sampled", minus the log-likelihood of predictions
    drawn from the float model, whose squared gradient is the true diagonal Fisher information. The graph begins at the
    first of the outputs. Batches of different sizes cannot be joined: see `output_gradient_parts`.
    """
    return [torch.cat(parts) for parts in output_gradient_parts(net, calibration, modules, point, first_call=True)]


def output_gradient_parts(
    net: PreparedModel,
    calibration: Calibration,
    modules: Sequence[nn.Module],
    point: GradientPoint,
    *,
    first_call: bool = False,
) -> list[list[Tensor]]:
    """Return what `output_gradients` joins: for each module, its gradients batch by batch.

    A module that runs several times per image has one entry for each run, or only for the first. "sampled" predictions
    are the same at every call, drawn from the calibration's seed: they do not depend on which modules are asked for.
    """
    leaves: dict[nn.Module, list[Tensor]] = {}
    found: list[list[Tensor]] = [[] for _ in modules]

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        if first_call and module in leaves:
            return output
        x = first_tensor(output)
        leaf = x if x.requires_grad else x.detach().requires_grad_()
        leaves.setdefault(module, []).append(leaf)
        return leaf if isinstance(output, Tensor) else type(output)([leaf, *output[1:]])

    generator = drawing(calibration)
    for batch in small_batches(calibration):
        with torch.no_grad():
            net.switch(False)
            expected = outputs(calibration.forward(net.model, batch))
        net.switch(point == "quantised")
        leaves.clear()
        handles = [module.register_forward_hook(leave) for module in modules]
        try:
            with torch.enable_grad():
                actual = outputs(calibration.forward(net.model, batch))
                if point == "sampled":
                    loss = -log_likelihood(actual, expected, generator=generator)
                else:
                    loss = divergence(actual, expected)
        finally:
            for handle in handles:
                handle.remove()
        wanted = [leaf for module in modules for leaf in leaves[module]]
        gradients = iter(torch.autograd.grad(loss, wanted))
        for parts, module in zip(found, modules, strict=True):
            parts += [next(gradients) for _ in leaves[module]]
    net.switch(False)
    return found


def first_tensor(output: Any) -> Tensor:
    """Return the tensor that a module puts out; of several, as a downsampling's (map, shape), the first."""
    first = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(first, Tensor):
        raise Unsupported(f"a module that puts out {type(output).__name__} has no gradient at its output")
    return first


def outputs(predictions: Tensor | Outputs) -> Outputs:
    """Return the tensors that a model predicts, only those of floating point."""
    tensors = (predictions,) if isinstance(predictions, Tensor) else predictions
    found = tuple(x for x in tensors if x.is_floating_point())
    if not found:
        raise Unsupported(
            "the method weights errors by what the model predicts, and this task's model puts out nothing"
        )
    return found


def are_logits(predictions: Outputs) -> bool:
    """Tell whether predictions are class scores (B, classes)."""
    return len(predictions) == 1 and predictions[0].ndim == 2


def divergence(actual: Outputs, expected: Outputs) -> Tensor:
    """Return the divergence L of predictions from the float model's (see above), a mean over the images."""
    if are_logits(expected):
        return nn.functional.kl_div(actual[0].log_softmax(-1), expected[0].softmax(-1), reduction="batchmean")
    terms = [(a - e).square().sum() / (2 * len(e) * _variance(e)) for a, e in zip(actual, expected, strict=True)]
    return torch.stack(terms).sum()


def log_likelihood(
    actual: Outputs,
    expected: Outputs,
    *,
    temperature: float = 1.0,
    reduction: Literal["mean", "sum"] = "mean",
    generator: torch.Generator,
) -> Tensor:
    """Return the log-likelihood under `actual` of predictions drawn from `expected`, over the images.

    Of logits: a class drawn from softmax(z / T). Of other tensors: y = f + sqrt(v) e with e ~ N(0, 1), whose
    log-likelihood -(y - a)^2 / (2 v) has the gradient e / sqrt(v) where a = f.
    """
    images = len(expected[0]) if reduction == "mean" else 1
    if are_logits(expected):
        scores = (actual[0] / temperature).log_softmax(-1)
        drawn = torch.multinomial((expected[0] / temperature).softmax(-1), 1, generator=generator)
        return scores.gather(1, drawn).sum() / images
    total = actual[0].new_zeros(())
    for a, e in zip(actual, expected, strict=True):
        variance = _variance(e)
        noise = torch.randn(e.shape, dtype=e.dtype, device=e.device, generator=generator)
        drawn = e.detach() + variance.sqrt() * noise
        total = total - (drawn - a).square().sum() / (2 * variance)
    return total / images


def _variance(x: Tensor) -> Tensor:
    return x.detach().var(correction=0).clamp_min(VARIANCE_FLOOR)


def fisher_mc(
    net: PreparedModel,
    calibration: Calibration,
    units: Sequence[str],
    *,
    draws: int = 4,
    temperature: float = 20.0,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Return the diagonal Fisher information at each unit's output, mean over images and draws: {name: H}.

    H_u = E[(d log p_y / dO_u)^2] with y drawn from the model's own predictions: the diagonal of the Hessian of the
    divergence at O' = O, exactly in expectation. One backward pass per draw serves all units. `net` is used as it is
    switched; the images of a batch do not influence each other (eval mode). H has the shape of one image's output
    (N, D), or (D,) where shapes differ between batches: then it is a mean over positions, too. Channels are the last
    axis, or axis 1 of a convolution's map. A unit that runs several times per image (on several scales) has the mean.
    Without a `generator` the draws follow the calibration's seed.
    """
    sums: dict[str, list[Tensor]] = {name: [] for name in units}
    counts: dict[str, list[int]] = {name: [] for name in units}
    modules = {name: net.model.get_submodule(name) for name in units}
    channels = {name: 1 if isinstance(module, nn.Conv2d) else -1 for name, module in modules.items()}
    generator = drawing(calibration) if generator is None else generator
    for batch in small_batches(calibration):
        for name, gradient in _drawn(net, calibration, batch, modules, draws, temperature, generator):
            add_images(sums[name], counts[name], gradient.square().sum(0), len(gradient))
    return {name: mean_of_images(sums[name], counts[name], channels[name], name) for name in units}


def _drawn(
    net: PreparedModel,
    calibration: Calibration,
    batch: Any,
    modules: dict[str, nn.Module],
    draws: int,
    temperature: float,
    generator: torch.Generator,
) -> Iterator[tuple[str, Tensor]]:
    """Yield (unit, gradient per image) for each draw on one batch."""
    found: list[tuple[str, Tensor]] = []

    def leave(name: str, module: nn.Module, args: Any, output: Any) -> Any:
        x = first_tensor(output)
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        found.append((name, x))
        return x if isinstance(output, Tensor) else type(output)([x, *output[1:]])

    handles = [module.register_forward_hook(partial(leave, name)) for name, module in modules.items()]
    try:
        with torch.enable_grad():
            predicted = outputs(calibration.forward(net.model, batch))
    finally:
        for handle in handles:
            handle.remove()
    for draw in range(draws):
        with torch.enable_grad():
            likelihood = log_likelihood(
                predicted, predicted, temperature=temperature, reduction="sum", generator=generator
            )
        inner = [x for _, x in found]
        gradients = torch.autograd.grad(likelihood, inner, retain_graph=draw + 1 < draws)
        yield from zip((name for name, _ in found), gradients, strict=True)


def add_images(sums: list[Tensor], counts: list[int], part: Tensor, images: int) -> None:
    """Add to the sum of the same shape, or begin another."""
    for i, known in enumerate(sums):
        if known.shape == part.shape:
            known += part
            counts[i] += images
            return
    sums.append(part)
    counts.append(images)


def mean_of_images(sums: list[Tensor], counts: list[int], channels: int, name: str) -> Tensor:
    """Return the mean over images; over positions too where there are several shapes."""
    if not sums:
        raise Unsupported(
            f"{name} did not run on the calibration set, so nothing is known of its effect on the predictions"
        )
    if len(sums) == 1:
        return sums[0] / counts[0]
    axis = 0 if channels == 1 else -1  # the image axis is gone
    rows = [part.movedim(axis, 0).flatten(1) for part in sums]
    total = torch.stack([row.sum(1) for row in rows]).sum(0)
    return total / sum(row.shape[1] * count for row, count in zip(rows, counts, strict=True))


def drawing(calibration: Calibration) -> torch.Generator:
    """Return a generator on the calibration's device that starts at its seed."""
    return torch.Generator(calibration.device).manual_seed(calibration.seed)


def small_batches(calibration: Calibration) -> Iterator[Any]:
    """Yield the calibration images four at a time where a batch is a tensor, else as they come."""
    for batch in calibration.batches():
        yield from batch.split(GRADIENT_BATCH) if isinstance(batch, Tensor) else (batch,)


def normalised(gradients: Sequence[Tensor]) -> list[Tensor] | None:
    """Return G / max|G|, which no argmax notices and which keeps G^2 from underflow; None where G says nothing."""
    largest = torch.stack([gradient.abs().amax() for gradient in gradients]).amax()
    return [gradient / largest for gradient in gradients] if bool((largest > 0) & largest.isfinite()) else None
