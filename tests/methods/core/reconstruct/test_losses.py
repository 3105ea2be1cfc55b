"""Losses: by hand, and what they may ask of a unit."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.methods.adalog import token_error
from vitptq.methods.aphq_vit import weighted_by
from vitptq.methods.core.reconstruct import (
    PerSample,
    StepTensors,
    divergence,
    power_error,
    squared_error,
    weighted_error,
)


class Named:
    """As much of a unit as a loss reads."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module


def seen(output: Tensor, target: Tensor) -> StepTensors:
    return StepTensors([output], [target], torch.arange(len(output)))


def test_squared_error_sums_channels_and_averages_the_rest() -> None:
    tokens = torch.randn(2, 5, 3)
    assert squared_error(Named(nn.Identity()))(seen(tokens, tokens + 2)).item() == pytest.approx(3 * 4)  # type: ignore[union-attr]
    maps = torch.randn(2, 3, 5, 5)
    assert squared_error(Named(nn.Conv2d(1, 1, 1)))(seen(maps, maps + 2)).item() == pytest.approx(3 * 4)  # type: ignore[union-attr]
    assert power_error(3)(Named(nn.Identity()))(seen(tokens, tokens - 2)).item() == pytest.approx(3 * 8, rel=1e-5)  # type: ignore[union-attr]


def test_weighted_error_looks_samples_up() -> None:
    output, target = torch.zeros(2, 2), torch.ones(2, 2)
    loss = weighted_error(lambda unit: PerSample([torch.tensor([[1.0, 3.0], [0.0, 8.0]])]))(Named(nn.Identity()))
    assert loss(seen(output, target)).item() == 3  # type: ignore[union-attr]


def test_divergence_of_equal_logits_is_zero() -> None:
    logits = torch.randn(4, 7)
    assert divergence(None)(seen(logits, logits)).item() == pytest.approx(0, abs=1e-6)  # type: ignore[union-attr]


def test_values_per_sample_of_several_shapes() -> None:
    values = PerSample([torch.arange(6.0).view(3, 2), torch.arange(8.0).view(2, 4), torch.arange(6.0).view(3, 2) + 10])
    assert values(torch.tensor([6, 0])).tolist() == [[12, 13], [0, 1]]
    assert values(torch.tensor([4])).tolist() == [[4, 5, 6, 7]]
    assert PerSample([torch.zeros(2, 1), torch.ones(2, 1)])(torch.tensor([2, 1])).tolist() == [[1], [0]]


DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


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
