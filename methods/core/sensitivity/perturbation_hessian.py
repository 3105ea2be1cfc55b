"""Importance of a unit's outputs for the predictions: the average perturbation Hessian as it was published.

APHQ-ViT (Wu et al., CVPR 2025, arXiv 2504.02508) adds a small constant to every value that a unit puts out, once above
and once below, and takes the difference of the two gradients of the predictions' divergence, averaged over the images.
In a transformer whose LayerNorms stand in front of the branches, a constant on all channels of a token reaches no
prediction, so both gradients are 0 but for the rounding of float arithmetic. What is left follows the columns of the
Jacobian and so resembles the diagonal of the Hessian, more or less. `fisher.fisher_mc` is that diagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import report
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.sensitivity.fisher import (
    add_images,
    are_logits,
    divergence,
    first_tensor,
    fisher_mc,
    mean_of_images,
    outputs,
)

QUANTILES = (0.01, 0.5, 0.99)
SAMPLED = 1_000_000
"""torch.quantile takes no more than 16 million values."""


def average_perturbation_hessian(
    net: PreparedModel,
    calibration: Calibration,
    units: Sequence[str],
    *,
    temperature: float = 20.0,
    epsilon: float = 1e-6,
) -> dict[str, Tensor]:
    """Return mean |g+ - g-| of each unit, g+ and g- being the gradients at O + epsilon and O - epsilon: {name: H}.

    Two passes over the images for each unit, in float32; the factor 1 / (2 epsilon) is left out, as in the released
    code. H is rounding noise (see above): it depends on the device, torch's version and the size of the batches. Shapes
    are those of `fisher.fisher_mc`. `net` is used as it is switched.
    """
    found: dict[str, Tensor] = {}
    for number, name in enumerate(units):
        report("importance", number, len(units))
        module = net.model.get_submodule(name)
        sums: list[Tensor] = []
        counts: list[int] = []
        for batch in calibration.batches():
            above, below = (
                _gradients(net, calibration, batch, module, temperature, sign * epsilon) for sign in (1, -1)
            )
            for g, h in zip(above, below, strict=True):
                add_images(sums, counts, (g - h).abs().sum(0), len(g))
        found[name] = mean_of_images(sums, counts, 1 if isinstance(module, nn.Conv2d) else -1, name)
    return found


def growth(
    net: PreparedModel,
    calibration: Calibration,
    units: Sequence[str],
    *,
    temperature: float = 20.0,
    epsilon: float = 1e-6,
) -> dict[str, float | None]:
    """Return by how much the mean of each unit's H grows where the perturbation grows tenfold.

    10 if H measures curvature: the difference of two gradients is as long as the way between them. Far less if it is
    rounding noise, which does not ask how far the outputs were moved. None where H is 0.
    """
    small, large = (
        average_perturbation_hessian(net, calibration, units, temperature=temperature, epsilon=e)
        for e in (epsilon, 10 * epsilon)
    )
    means = {name: (h.double().mean().item(), large[name].double().mean().item()) for name, h in small.items()}
    return {name: after / before if before > 0 else None for name, (before, after) in means.items()}


def agreement(
    net: PreparedModel,
    calibration: Calibration,
    units: Sequence[str],
    *,
    draws: int,
    temperature: float = 20.0,
    seed: int,
) -> dict[str, float | None]:
    """Return the correlation of two Fisher diagonals of each unit that were drawn independently, 1 without noise."""
    once, again = (
        fisher_mc(
            net, calibration, units, draws=draws, temperature=temperature,
            generator=torch.Generator(calibration.device).manual_seed((seed + turn) % 2**63),
        )
        for turn in (1, 2)
    )  # fmt: skip
    return {name: correlation(h, again[name]) for name, h in once.items()}


def _gradients(
    net: PreparedModel, calibration: Calibration, batch: Any, module: nn.Module, temperature: float, shift: float
) -> list[Tensor]:
    """Return the gradient of the divergence, summed over the images, at each output of a module, moved by `shift`."""
    leaves: list[Tensor] = []

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        leaf = (first_tensor(output).detach() + shift).requires_grad_()
        leaves.append(leaf)
        return leaf if isinstance(output, Tensor) else type(output)([leaf, *output[1:]])

    with torch.no_grad():
        expected = outputs(calibration.forward(net.model, batch))
    handle = module.register_forward_hook(leave)
    try:
        with torch.enable_grad():
            actual = outputs(calibration.forward(net.model, batch))
            if are_logits(expected):
                actual, expected = (actual[0] / temperature,), (expected[0] / temperature,)
            loss = divergence(actual, expected) * len(expected[0])
    finally:
        handle.remove()
    return list(torch.autograd.grad(loss, leaves))


def relative(importance: Tensor) -> Tensor | None:
    """Return H / mean(H), which no normalised loss notices and which keeps it from underflow; None if H says nothing.

    >>> relative(torch.tensor([1.0, 3.0])), relative(torch.zeros(2))
    (tensor([0.5000, 1.5000]), None)
    """
    mean = importance.double().mean()
    usable = bool(mean > 0) and bool(mean.isfinite())
    return (importance.double() / mean).to(importance.dtype) if usable else None


def statistics(maps: dict[str, Tensor], others: dict[str, Tensor] | None = None) -> dict[str, JsonValue]:
    """Return figures of each unit's H for the record, and its correlation with the Fisher diagonals `others`."""
    return {name: _figures(h, None if others is None else others[name]) for name, h in maps.items()}


def _figures(h: Tensor, other: Tensor | None) -> dict[str, JsonValue]:
    flat = h.double().flatten()
    some = flat[:: max(1, len(flat) // SAMPLED)]
    levels = some.quantile(some.new_tensor(QUANTILES)).tolist()
    found: dict[str, JsonValue] = {
        "mean": flat.mean().item(),
        "quantiles": dict(zip(map(str, QUANTILES), levels, strict=True)),
        "zero": (flat == 0).double().mean().item(),
    }
    if other is not None:
        found["correlation with Fisher"] = correlation(h, other)
        found["fisher mean"] = other.double().mean().item()
    return found


def correlation(a: Tensor, b: Tensor) -> float | None:
    """Return Pearson's correlation of two maps of one shape; None where one of them is constant.

    >>> correlation(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 4.0, 8.0]))
    1.0
    """
    x, y = (v.double().flatten() - v.double().mean() for v in (a, b))
    norm = (x.norm() * y.norm()).item()
    return round(float(x @ y) / norm, 6) if norm > 0 else None
