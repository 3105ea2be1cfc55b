"""Gradients of what a reconstruction minimises, against finite differences in float64.

Rounding is a staircase, so the gradient of a quantizer is compared with that of a surrogate: the same function with
what the rounding added, and which values were clipped, held fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.methods import mgrq
from vitptq.methods.adalog import token_error
from vitptq.methods.aphq_vit import weighted_by
from vitptq.methods.core.quantizers.adaptive_log import AdaptiveLog
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct import (
    PerSample,
    StepTensors,
    divergence,
    power_error,
    squared_error,
    weighted_error,
)
from vitptq.methods.core.reconstruct.trainable_activation import TrainableActivation, mask
from vitptq.methods.core.reconstruct.trainable_weight import regularise, regulariser

DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def slope(value: Callable[[float], Tensor], at: float, step: float = 1e-6) -> Tensor:
    """Return the central difference."""
    return (value(at + step) - value(at - step)) / (2 * step)


@pytest.mark.parametrize("beta", [2.0, 5.5, 20.0])
def test_regulariser(beta: float) -> None:
    alpha = torch.linspace(-3, 3, 31, dtype=DOUBLE)
    alpha.grad = torch.zeros_like(alpha)
    regularise(alpha, beta, 0.3)
    for place in range(len(alpha)):
        moved = alpha.detach().clone()

        def value(x: float, moved: Tensor = moved, place: int = place) -> Tensor:
            moved[place] = x
            return 0.3 * regulariser(moved, beta)

        torch.testing.assert_close(alpha.grad[place], slope(value, alpha[place].item()), atol=1e-7, rtol=1e-5)


GRIDS = {
    "both signs": (torch.tensor(0.37), torch.tensor(3.0), None),
    "no code below 0": (torch.tensor(0.37), torch.tensor(0.0), None),
    "no value below 0": (torch.tensor(0.37), torch.tensor(0.0), None),
    "zero point between codes": (torch.tensor(0.37), torch.tensor(0.4), None),
    "no code for 0": (torch.tensor(0.37), torch.tensor(-2.0), None),
    "per head": (torch.tensor([0.3, 0.4, 0.6]), torch.tensor([3.0, 0.0, -1.0]), 1),
}


@pytest.mark.parametrize("probability", [1.0, 0.5])
@pytest.mark.parametrize("name", GRIDS)
def test_learned_scale(name: str, probability: float) -> None:
    """LSQ: with the rounding error in steps held fixed, x^ = x + s e where rounded, and s times the code at an end."""
    scale, zero, axis = GRIDS[name]
    grid = Uniform(3, scale, zero, axis=axis).double()
    nonnegative = name == "no value below 0"
    x, upstream = drawn(4, 3, 50, seed=5), drawn(4, 3, 50, seed=9)
    x = (1.5 * x.abs() if nonnegative else x).requires_grad_()
    form = TrainableActivation(grid, probability, torch.Generator().manual_seed(2), learn=True, nonnegative=nonnegative)
    out = form(x)
    (out * upstream).sum().backward()
    chosen = torch.ones_like(x) if probability == 1 else mask(x, probability, torch.Generator().manual_seed(2))
    s, z = grid._like(x, grid.scale.detach()), grid._like(x, grid.zero_point)
    code = (x.detach() / s).round()
    hard = code.clamp(-z, 7 - z)
    error, inside = code - x.detach() / s, code == hard

    def surrogate(s: Tensor, x: Tensor) -> Tensor:
        return torch.where(chosen.bool(), torch.where(inside, x + s * error, s * hard), x)

    torch.testing.assert_close(out.detach(), surrogate(s, x.detach()))
    assert grid.scale.grad is not None and x.grad is not None
    for group in range(len(grid.scale)):
        moved = grid.scale.detach().clone()

        def value(at: float, moved: Tensor = moved, group: int = group) -> Tensor:
            moved[group] = at
            return (surrogate(grid._like(x, moved), x.detach()) * upstream).sum()

        torch.testing.assert_close(grid.scale.grad[group], slope(value, moved[group].item()), atol=1e-6, rtol=1e-6)
    (expected,) = torch.autograd.grad((surrogate(s, x) * upstream).sum(), x)
    torch.testing.assert_close(x.grad, expected)


def test_ceiling_of_adaptive_logarithms() -> None:
    grid = AdaptiveLog(3, torch.tensor(2.0), torch.tensor(30.0), shift=0.1)
    grid.double().ceiling.requires_grad_()
    x, upstream = drawn(200).abs() * 1.5, drawn(200, seed=1)
    out = grid(x)
    (out * upstream).sum().backward()
    share, inside = (out.detach() - (x + 0.1) + 0.1) / 2.0, x + 0.1 <= 2.0  # what rounding added, in ceilings

    def value(at: float) -> Tensor:
        return (torch.where(inside, x + at * share, torch.as_tensor(at, dtype=DOUBLE) - 0.1) * upstream).sum()

    assert 0 < inside.sum() < len(x) and grid.ceiling.grad is not None
    torch.testing.assert_close(grid.ceiling.grad, slope(value, 2.0), atol=1e-6, rtol=1e-5)


def unit(*, final: bool = False, module: nn.Module | None = None) -> Any:
    """Return as much of a unit as these losses read."""
    return SimpleNamespace(name="block", final=final, module=module or nn.Identity())


LOSSES: dict[str, Callable[[], Any]] = {
    "squared": lambda: squared_error(unit()),
    "power": lambda: power_error(2.4)(unit()),
    "power of a map": lambda: power_error(3.0)(unit(module=nn.Conv2d(1, 1, 1))),
    "weighted": lambda: weighted_error(lambda unit: PerSample([drawn(2, 5, 3, seed=3).abs()]))(unit()),
    "divergence": lambda: divergence(unit()),
    "APHQ-ViT": lambda: weighted_by({"block": drawn(5, 3, seed=3).abs()})(unit()),
    "APHQ-ViT, head": lambda: weighted_by({})(unit(final=True)),
    "AdaLog": lambda: token_error(unit()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    shape = (2, 3, 4, 4) if "map" in name else (2, 5, 3)
    target, loss = drawn(*shape, seed=1), LOSSES[name]()

    def value(out: Tensor) -> Tensor:
        return loss(StepTensors([out], [target], torch.arange(2)))

    assert torch.autograd.gradcheck(value, drawn(*shape, seed=2).requires_grad_())


@pytest.mark.parametrize("name", mgrq.DISTANCES)
def test_local_distances_of_mgrq(name: Any) -> None:
    target, distance = drawn(2, 5, 3, seed=1), mgrq.DISTANCES[name]
    assert torch.autograd.gradcheck(lambda out: distance(out, target), drawn(2, 5, 3, seed=2).requires_grad_())


def test_predictions_of_mgrq() -> None:
    logits = (drawn(4, 6, seed=1),)
    given = drawn(4, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mgrq.predictions_apart((x,), logits), given)
    maps = (drawn(2, 3, 4, seed=3), drawn(2, 5, seed=4))
    pair = (drawn(2, 3, 4, seed=5).requires_grad_(), drawn(2, 5, seed=6).requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: mgrq.predictions_apart(x, maps), pair)
