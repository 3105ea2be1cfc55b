"""Quantizers: while the harness evaluates, a weight is quantised once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.contracts.quantizer import Quantizer, kept_weights


class Counting(Quantizer):
    """Rounds, and counts how often."""

    granularity = "tensor"  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(8)
        self.calls = 0

    def quantise(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.round()

    def grid(self) -> Tensor:
        return torch.arange(256.0)[None]

    def groups(self, x: Tensor) -> Tensor:
        return x.reshape(1, -1)


@pytest.fixture
def weight() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.4, 2.6]))


def calls(quantizer: Counting, x: Tensor) -> int:
    before = quantizer.calls
    assert quantizer(x).tolist() == [1.0, 3.0]
    return quantizer.calls - before


def test_a_weight_is_quantised_once_inside_and_every_time_outside(weight: nn.Parameter) -> None:
    quantizer = Counting()
    with kept_weights():
        inside = [calls(quantizer, weight) for _ in range(3)]
    assert inside == [1, 0, 0]
    assert [calls(quantizer, weight) for _ in range(2)] == [1, 1]


def test_an_activation_is_quantised_every_time(weight: nn.Parameter) -> None:
    quantizer = Counting()
    with kept_weights():
        assert [calls(quantizer, weight.detach()) for _ in range(2)] == [1, 1]


def test_a_nested_use_leaves_the_outer_one_working(weight: nn.Parameter) -> None:
    quantizer = Counting()
    with kept_weights():
        calls(quantizer, weight)
        with kept_weights():
            assert calls(quantizer, weight) == 1  # the inner one knows nothing of what the outer one keeps
        assert calls(quantizer, weight) == 0


def test_an_error_inside_ends_it(weight: nn.Parameter) -> None:
    quantizer = Counting()
    with pytest.raises(ZeroDivisionError), kept_weights():
        1 / 0  # noqa: B018
    assert [calls(quantizer, weight) for _ in range(2)] == [1, 1]
