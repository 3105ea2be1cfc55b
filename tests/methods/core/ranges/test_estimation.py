"""Range estimation: searches on sorted values against plain loops."""

from __future__ import annotations

import pytest
import torch

from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import (
    MANY,
    Bins,
    SortedValues,
    asymmetric_parameters,
    ends,
    least_error,
    percentile,
    percentiles,
    sorted_quantile,
    upper_percentiles,
)
from vitptq.methods.core.ranges.shrunk import least_error_range, shrunk


def test_quantile_agrees_with_torch() -> None:
    x = torch.randn(1001)
    for fraction in (0.0, 0.001, 0.5, 0.73, 0.9999, 1.0):
        torch.testing.assert_close(
            sorted_quantile(x.sort().values, fraction), x.quantile(fraction), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("count", [3, 40, 999, 5000])
@pytest.mark.parametrize("fraction", [0.6, 0.99, 0.999, 0.99999])
def test_percentile_equals_that_of_sorted_values(count: int, fraction: float) -> None:
    x = torch.randn(4, count)
    ordered = x.sort(dim=1).values
    low, high = percentile(x, fraction)
    torch.testing.assert_close(low, sorted_quantile(ordered, 1 - fraction))
    torch.testing.assert_close(high, sorted_quantile(ordered, fraction))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_error_on_sorted_values_equals_a_pass_over_the_data(bits: int) -> None:
    x = torch.randn(3, 2000, dtype=torch.float64).float()
    lows, highs = shrunk(x.amin(1), x.amax(1))
    scale, zero = asymmetric_parameters(lows, highs, bits)
    fast = SortedValues(x).error(scale, zero, 0, 2**bits - 1)
    for group in range(3):
        for k in (0, 17, 60, 89):
            plain = Uniform(bits, scale[group, k], zero[group, k])(x[group])
            assert fast[group, k].item() == pytest.approx((plain - x[group]).double().square().mean().item(), rel=1e-4)


def test_search_finds_the_candidate_that_a_loop_finds() -> None:
    x = torch.randn(5, 3000).sinh()
    low, high = least_error(x, *shrunk(x.amin(1), x.amax(1)), 4)
    for group in range(5):
        errors = []
        for i in range(90):
            factor = 1 - 0.01 * i
            scale, zero = asymmetric_parameters(x[group].min()[None] * factor, x[group].max()[None] * factor, 4)
            errors.append((Uniform(4, scale, zero)(x[group]) - x[group]).square().mean())
        best = 1 - 0.01 * int(torch.stack(errors).argmin())
        assert high[group].item() == pytest.approx(x[group].max().item() * best, rel=1e-5)
        assert low[group].item() == pytest.approx(x[group].min().item() * best, rel=1e-5)


def test_ranges_are_nested() -> None:
    x = torch.randn(1, 100_000)
    for low, high in (percentile(x, 0.999), least_error_range(x, 4)):
        assert x.min() <= low.item() < high.item() <= x.max()


def test_squared_error_falls_about_four_times_per_bit() -> None:
    x = torch.rand(1, 50_000) * 2 - 1
    errors = []
    for bits in (4, 5, 6):
        scale, zero = asymmetric_parameters(x.amin(1), x.amax(1), bits)
        errors.append((Uniform(bits, scale, zero)(x) - x).square().mean().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("shape", ["normal", "one-sided", "long tails"])
def test_bins_bound_the_error_and_find_the_candidate_that_sorting_finds(shape: str, bits: int) -> None:
    torch.manual_seed(3)
    x = torch.randn(1, MANY)
    x = {"normal": x, "one-sided": x.relu(), "long tails": x.sinh()}[shape]
    lows, highs = shrunk(x.amin(1), x.amax(1))
    scale, zero = asymmetric_parameters(lows, highs, bits)
    exact = SortedValues(x).error(scale, zero, 0, 2**bits - 1)[0] * MANY
    upper, slack = Bins(x[0]).error(scale[0], zero[0], 0, 2**bits - 1)
    assert (exact <= upper * (1 + 1e-6)).all()
    assert (exact >= (upper - slack) * (1 - 1e-6)).all()
    low, high = least_error(x, lows, highs, bits)
    best = exact.argmin()
    assert low[0] == lows[0, best] and high[0] == highs[0, best]


SHAPES = {
    "normal": lambda: torch.randn(1, 50_000),
    "a few wide channels": lambda: (torch.randn(800, 61) * torch.tensor([*[1.0] * 60, 30.0])).reshape(1, -1),
    "many equal ends": lambda: torch.randn(1, 50_000).clamp(-1, 1),
    "not numbers": lambda: torch.randn(1, 50_000).masked_fill(torch.rand(1, 50_000) < 1e-3, torch.nan),
    "several groups": lambda: torch.randn(5, 20_000),
}


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_ends_are_those_of_a_sort(kind: str, largest: bool) -> None:
    torch.manual_seed(0)
    x = SHAPES[kind]()
    ordered = x.sort(dim=1).values
    expected = ordered[:, -60:] if largest else ordered[:, :60]
    torch.testing.assert_close(ends(x, 60, largest=largest), expected, rtol=0, atol=0, equal_nan=True)


def test_percentiles_together_are_those_alone() -> None:
    x, fractions = torch.randn(3, 5000), (0.99, 0.999, 0.99999)
    together = percentiles(x, fractions)
    for (low, high), top, fraction in zip(together, upper_percentiles(x, fractions), fractions, strict=True):
        torch.testing.assert_close((low, high), percentile(x, fraction))
        assert torch.equal(high, top)
