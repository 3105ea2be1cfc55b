"""Column by column: GPTQ's and GPTAQ's algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitptq.methods.core.layerwise import columns
from vitptq.methods.core.layerwise.columns import damped, drift_pull, inverse_factor, rounded_by_columns
from vitptq.methods.core.layerwise.row_grid import RowGrid
from vitptq.methods.core.ranges.estimation import min_max, uniform

OUT, IN, TOKENS = 5, 8, 40


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(seed: int = 1, inputs: int = IN) -> Tensor:
    """Return inputs, (inputs, tokens), that tell much about each other."""
    return drawn(seed, inputs, inputs) @ drawn(seed + 1, inputs, TOKENS)


def grid_of(weight: Tensor, bits: int = 3) -> RowGrid:
    quantizer = uniform(*min_max(weight[0].float()), bits, axis=0, granularity="channel")
    return RowGrid.of(quantizer, 1, 1)


def by_columns(weight: Tensor, x: Tensor, drift: Tensor | None = None, damping: float = 0.01) -> Tensor:
    gram = (x @ x.T)[None]
    return rounded_by_columns(weight, gram, grid_of(weight), damping=damping, order="energy", drift=drift)


def test_uncorrelated_inputs_of_equal_energy_are_rounded_to_nearest() -> None:
    weight = drawn(0, 1, OUT, IN)
    gram = torch.eye(IN, dtype=torch.float64)[None]
    found = rounded_by_columns(weight, gram, grid_of(weight), damping=0.1, order="energy")
    assert torch.equal(found, grid_of(weight).nearest(weight))


def test_output_error_is_less_than_that_of_rounding_to_nearest() -> None:
    weight, x = drawn(0, 1, OUT, IN), correlated()
    error, plain = (((weight - q) @ x).square().sum() for q in (by_columns(weight, x), grid_of(weight).nearest(weight)))
    assert error < 0.7 * plain


def test_result_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = drawn(0, 1, OUT, IN), correlated()
    drift = (drawn(5, IN, TOKENS) @ x.T)[None]
    whole = by_columns(weight, x, drift)
    monkeypatch.setattr(columns, "BLOCK", 3)
    assert torch.equal(by_columns(weight, x, drift), whole)


def test_inputs_that_are_always_zero_stay_finite() -> None:
    weight, x = drawn(0, 1, OUT, IN), correlated()
    x[2] = 0
    found = by_columns(weight, x)
    assert torch.equal(found[:, :, 2], grid_of(weight).nearest(weight)[:, :, 2])
    assert found.isfinite().all()


def test_without_drift_gptaq_is_gptq_bit_for_bit() -> None:
    weight, x = drawn(0, 1, OUT, IN), correlated()
    assert torch.equal(by_columns(weight, x, torch.zeros(1, IN, IN, dtype=torch.float64)), by_columns(weight, x))


def test_pull_is_the_direct_formula() -> None:
    x, moved = correlated(), drawn(7, IN, TOKENS)
    gram = damped((x @ x.T)[None], 0.1)
    pull = drift_pull((moved @ x.T)[None], inverse_factor(gram))[0]
    for q in range(IN - 1):
        rest = slice(q + 1, IN)
        expected = moved[q] @ x[rest].T @ torch.linalg.inv(gram[0, rest, rest])
        torch.testing.assert_close(pull[q, rest], expected, rtol=0, atol=1e-10)
    assert not pull.tril().any()


def test_drift_brings_the_output_nearer_to_the_float_one() -> None:
    weight, x = drawn(0, 1, OUT, IN), correlated()
    float_x = x + 0.03 * drawn(9, IN, IN) @ x
    drift = ((float_x - x) @ x.T)[None]
    wide = uniform(torch.full((OUT,), -6.0), torch.full((OUT,), 6.0), 8, axis=0, granularity="channel")
    found = [
        rounded_by_columns(
            weight, (x @ x.T)[None], RowGrid.of(wide, 1, 1), damping=1e-4, order="energy", drift=d
        )
        for d in (None, drift)
    ]  # fmt: skip
    errors = [(weight @ float_x - q @ x).square().sum() for q in found]
    assert errors[1] < 0.5 * errors[0]


def test_groups_are_rounded_apart() -> None:
    x = [correlated(1), correlated(11)]
    weight = drawn(0, 2, OUT, IN)
    quantizer = uniform(*min_max(weight.flatten(0, 1).float()), 3, axis=0, granularity="channel")
    gram = torch.stack([each @ each.T for each in x])
    both = rounded_by_columns(weight, gram, RowGrid.of(quantizer, 2, 1), damping=0.01, order="energy")
    for group in range(2):
        torch.testing.assert_close(both[group], by_columns(weight[group : group + 1], x[group])[0], rtol=0, atol=1e-6)
