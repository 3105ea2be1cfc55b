"""The average perturbation Hessian of the predictions at a unit's outputs, as it was published.

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
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import report
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.sensitivity.fisher import (
    add_images,
    are_logits,
    divergence,
    first_tensor,
    mean_of_images,
    outputs,
)


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
        report("perturbation Hessian", number, len(units))
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


def relative(h: Tensor) -> Tensor | None:
    """Return H / mean(H), which no normalised loss notices and which keeps it from underflow; None if H says nothing.

    >>> relative(torch.tensor([1.0, 3.0])), relative(torch.zeros(2))
    (tensor([0.5000, 1.5000]), None)
    """
    mean = h.double().mean()
    usable = bool(mean > 0) and bool(mean.isfinite())
    return (h.double() / mean).to(h.dtype) if usable else None
