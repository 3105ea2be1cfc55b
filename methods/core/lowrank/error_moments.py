"""What the factors of a layer, and those of the layers before it, leave of its output."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.layerwise.moments import inputs_of
from vitptq.methods.core.lowrank.factored import as_linear
from vitptq.methods.core.lowrank.input_statistics import output_weights
from vitptq.methods.core.lowrank.residual import ErrorMoments, Factors
from vitptq.methods.core.model.prepare import PreparedModel


@dataclass(frozen=True)
class LayerStep:
    """One layer that is about to be put into factors, in a model whose earlier layers are."""

    net: PreparedModel
    twin: PreparedModel
    """The float model."""
    name: str
    calibration: Calibration
    told: dict[str, float] = field(default_factory=dict)
    """Figures for the table of the layers."""


@torch.no_grad()
def error_moments(step: LayerStep, factors: Factors) -> ErrorMoments:
    """Return the error |W x - L R x'|^2 / |W x|^2 in moments: x in the float model, x' behind the layers before.

    Means over all tokens but those without an output.
    """
    weight = as_linear(step.twin.model, step.name).weight
    approximate = (factors[0] @ factors[1]).to(weight)
    sums: tuple[Tensor, ...] = ()
    rows = 0
    for batch in step.calibration.batches():
        given, plain = (inputs_of(net, step.name, 1, step.calibration, batch) for net in (step.net, step.twin))
        for x, x_float in zip(given, plain, strict=True):
            new, count = _moments(x.reshape(-1, x.shape[-1]), x_float.reshape(-1, x.shape[-1]), weight, approximate)
            sums = tuple(a + b for a, b in zip(sums, new, strict=True)) if sums else new
            rows += count
    assert sums, f"{step.name} did not run"
    return ErrorMoments(*(each / max(1, rows) for each in sums))


def _moments(x: Tensor, x_float: Tensor, weight: Tensor, approximate: Tensor) -> tuple[tuple[Tensor, ...], int]:
    """Return the sums over rows (rows, inputs) of gram, error and constant, and how many rows counted."""
    weights = output_weights(x_float, weight)
    error = x_float @ weight.T - x @ approximate.T
    weighted = x * weights[:, None]
    constant = (error.square().sum(1) * weights).sum(dtype=torch.float64)
    return ((weighted.T @ x).double(), (error.T @ weighted).double(), constant), int((weights > 0).sum())
