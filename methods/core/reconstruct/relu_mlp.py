"""MLP reconstruction of APHQ-ViT (arXiv 2504.02508, equations 11 to 14): GELU becomes ReLU, both layers are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import Mlp
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct import Loss, Settings, StepTensors, Unit, reconstruct

DIVISOR = 10.0
KEPT = 200_000
"""Values per MLP from which the bound is taken."""


def mlps_of(net: PreparedModel) -> list[Mlp]:
    """Return the MLPs with a GELU, or say that there are none."""
    found = net.family.mlps(net.model)
    if not found:
        raise Unsupported(
            f"this {type(net.model).__name__} has no MLP of two linear layers with a GELU between them to replace it "
            "by ReLU; with mlp=False the method leaves the activations as they are"
        )
    return found


def with_relu(net: PreparedModel, mlps: Sequence[Mlp]) -> None:
    """Put a ReLU in the place of each GELU."""
    for mlp in mlps:
        net.model.set_submodule(mlp.activation, nn.ReLU())


@torch.no_grad()
def upper_bounds(
    twin: PreparedModel, calibration: Calibration, mlps: Sequence[Mlp], fraction: float
) -> dict[str, Tensor]:
    """Return the quantile of the positive values behind each GELU of the float model, by the MLP's name."""
    slots = {mlp.whole: twin.operands[f"{mlp.second}.input_operand"] for mlp in mlps}
    names = {slot: name for name, slot in slots.items()}
    kept: dict[str, list[Tensor]] = {name: [] for name in slots}
    limit = max(1, KEPT // max(1, sum(1 for _ in calibration.batches())))

    def watch(operand: Operand, x: Tensor) -> None:
        positive = x[x > 0]
        kept[names[operand]].append(positive[:: max(1, len(positive) // limit)].clone())

    with watching(slots, watch):
        twin.run(calibration)
    missing = [name for name, parts in kept.items() if not parts]
    if missing:
        raise Unsupported(f"{missing[0]} did not run on the calibration set, so it cannot be reconstructed")
    values = {name: torch.cat(parts) for name, parts in kept.items()}
    return {name: x.quantile(fraction) if len(x) else x.new_zeros(()) for name, x in values.items()}


def reconstruct_mlps(
    net: PreparedModel,
    twin: PreparedModel,
    calibration: Calibration,
    settings: Settings,
    hessians: Mapping[str, Tensor | None],
    *,
    percentile: float,
) -> None:
    """Give `net` ReLUs and train the layers around them to put out what `twin`, with GELUs, does on float inputs.

    `hessians` weigh the outputs (..., D), by the name of the MLP; `settings.term_weights["clamped"]` is the factor of
    the error with hidden values up to the bound of `upper_bounds`.
    """
    mlps = {mlp.whole: mlp for mlp in mlps_of(net)}
    bounds = upper_bounds(twin, calibration, list(mlps.values()), percentile)
    with_relu(net, list(mlps.values()))

    def loss(unit: Unit) -> Loss:
        return mlp_error(unit, mlps[unit.name], bounds[unit.name], hessians.get(unit.name))

    reconstruct(net, twin, calibration, settings, loss=loss, units=list(mlps), tag="mlp")


def mlp_error(unit: Unit, mlp: Mlp, bound: Tensor, hessian: Tensor | None) -> Loss:
    """Return the loss of one MLP: the weighted error of its output, and the same with hidden values up to `bound`.

    Sums over the positions, means over images and channels.
    """
    inside = len(unit.name) + 1
    first, second = mlp.first[inside:], mlp.second[inside:]
    unit.tap(first, second)
    weight = None if hessian is None else hessian / hessian.square().mean().sqrt()

    def error(out: Tensor, target: Tensor) -> Tensor:
        square = (out - target).square()
        if weight is not None:
            square = square * weight
        return square.flatten(1, -2).sum(1).mean() / DIVISOR

    def loss(seen: StepTensors) -> dict[str, Tensor]:
        target = seen.inner_targets[second]
        hidden = seen.inner[first].relu().minimum(bound)
        clamped = unit.module.get_submodule(second)(hidden)
        return {"output": error(seen.inner[second], target), "clamped": error(clamped, target)}

    return loss
