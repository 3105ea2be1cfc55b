"""Residuals of all layers of a block at once, trained for what the block puts out.

The factors themselves stay; blocks are taken in execution order, each behind those that are done.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.lowrank.factored import Factored, as_linear
from vitptq.methods.core.model.operands import Layer, Linear
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct.engine import reconstruct
from vitptq.methods.core.reconstruct.losses import Loss, StepTensors, channel_axis
from vitptq.methods.core.reconstruct.settings import Settings

BATCH = 32


class Kept(nn.Module):
    """A layer that is not trained: the training does not find its parameters here."""

    layer: nn.Module

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        vars(self)["layer"] = layer  # no submodule

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        y: Tensor = self.layer(x)
        return y


class WithResidual(Kept):
    """A layer in factors that are not trained, and P Q x beside them; P starts small and random, Q at 0."""

    layer: Factored

    def __init__(self, layer: Factored, rank: int, generator: torch.Generator) -> None:
        super().__init__(layer)
        down, up = (
            nn.Linear(*sizes, bias=False) for sizes in ((layer.down.in_features, rank), (rank, layer.up.out_features))
        )
        start = torch.randn(up.weight.shape, generator=generator) * up.out_features**-0.5
        down.weight, up.weight = (
            nn.Parameter(x.to(layer.up.weight), requires_grad=False) for x in (torch.zeros_like(down.weight), start)
        )
        self.down, self.up = Linear(down, FLOAT), Linear(up, FLOAT)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both, shape (..., in) to (..., out)."""
        y: Tensor = super().forward(x) + self.up(self.down(x))
        return y

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return the factors [L P] and [R; Q] that compute the same."""
        left, right = self.layer.up.weight, self.layer.down.weight
        return torch.cat([left, self.up.weight], dim=1), torch.cat([right, self.down.weight])


def with_block_residuals(
    net: PreparedModel, twin: PreparedModel, calibration: Calibration, *, rank: int, steps: int, rate: float
) -> PreparedModel:
    """Return `net` with `rank` more ranks in each layer in factors: of least error of each block's output.

    `twin` is the float model. Adam takes `steps` steps per block on batches of 32 images; the error is that of
    `normalised_error`, and where training did not lower it, the residuals of that block are 0.
    """
    generator = torch.Generator().manual_seed(calibration.seed)
    blocks = [name for name, block in net.blocks() if any(isinstance(m, Factored) for m in block.modules())]
    layers = {name: module for block in blocks for name, module in _outermost(net.model.get_submodule(block), block)}
    factored = {name: module for name, module in layers.items() if isinstance(module, Factored)}
    residuals = {name: WithResidual(module, rank, generator) for name, module in factored.items()}
    in_training = net.replaced({name: residuals.get(name) or Kept(module) for name, module in layers.items()})
    settings = Settings(
        iterations=steps, batch=BATCH, weights="ste", weight_rate=rate, scales=False, input="quantised",
        seed=calibration.seed,
    )  # fmt: skip
    reconstruct(in_training, twin, calibration, settings, loss=normalised_error, units=blocks, tag="block residuals")
    return in_training.replaced({**layers, **_merged(residuals, twin, net)})


def normalised_error(unit: Any) -> Loss:
    """Mean over images and positions of |f(x) - f^(x')|^2 / |f(x)|^2, |.| over channels; where f(x) = 0 none counts."""

    def loss(seen: StepTensors) -> Tensor:
        axis = channel_axis(seen.output, unit.module)
        energy = seen.target.square().sum(axis)
        error = (seen.output - seen.target).square().sum(axis)
        counts = energy > 0
        return torch.where(counts, error / energy.where(counts, 1), 0).sum() / counts.sum().clamp_min(1)

    return loss


def _outermost(block: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """Return a block's layers with a weight; of one in factors, the whole."""
    if isinstance(block, Factored | Layer):
        return [(name, block)]
    return [found for inner, child in block.named_children() for found in _outermost(child, f"{name}.{inner}")]


def _merged(residuals: Mapping[str, WithResidual], twin: PreparedModel, net: PreparedModel) -> dict[str, nn.Module]:
    return {name: Factored(as_linear(twin.model, name), *each.merged(), net.bits) for name, each in residuals.items()}
