"""Components and their energies: the exact statements of both readings."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.lowrank.components import Components, by_mean_input, by_second_moment, plain, roots

OUT, IN, ROWS = 24, 16, 200


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT = drawn(0, OUT, IN)
INPUTS = drawn(1, ROWS, IN) @ drawn(2, IN, IN) + drawn(3, IN)


def moment(x: Tensor) -> Tensor:
    weights = (x @ WEIGHT.T).square().sum(1).reciprocal()
    return (x * weights[:, None]).T @ x / len(x)


def approximated(found: Components, rank: int) -> Tensor:
    left, right = found.factors(rank)
    return left @ right


def normalised_error(approximation: Tensor, x: Tensor) -> Tensor:
    y = x @ WEIGHT.T
    return ((y - x @ approximation.T).square().sum(1) / y.square().sum(1)).mean()


def test_all_components_are_the_weight() -> None:
    for found in (plain(WEIGHT), by_mean_input(WEIGHT, INPUTS.mean(0)), by_second_moment(WEIGHT, moment(INPUTS))):
        torch.testing.assert_close(approximated(found, IN), WEIGHT, rtol=0, atol=1e-9)
        torch.testing.assert_close(found.energy.sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-12)
        assert (found.energy.diff() <= 1e-15).all()


def test_energy_dropped_is_the_error_at_the_mean_input() -> None:
    mean = INPUTS.mean(0)
    found = by_mean_input(WEIGHT, mean)
    for rank in (4, 8, 12):
        error = ((WEIGHT - approximated(found, rank)) @ mean).square().sum() / (WEIGHT @ mean).square().sum()
        torch.testing.assert_close(found.energy[rank:].sum(), error, rtol=0, atol=1e-12)


def test_energy_dropped_is_the_mean_normalised_error() -> None:
    found = by_second_moment(WEIGHT, moment(INPUTS))
    for rank in (4, 8, 12):
        error = normalised_error(approximated(found, rank), INPUTS)
        torch.testing.assert_close(found.energy[rank:].sum(), error, rtol=0, atol=1e-12)


def test_second_moment_is_never_worse_than_the_plain_svd() -> None:
    exact, svd = by_second_moment(WEIGHT, moment(INPUTS)), plain(WEIGHT)
    errors = [
        [normalised_error(approximated(found, rank), INPUTS).item() for rank in range(1, IN)] for found in (exact, svd)
    ]
    assert all(one <= other + 1e-12 for one, other in zip(*errors, strict=True))
    assert errors[0][7] < 0.6 * errors[1][7]


def test_inputs_that_never_occur_cost_nothing() -> None:
    x = INPUTS.clone()
    x[:, 3] = 0
    found = by_second_moment(WEIGHT, moment(x))
    torch.testing.assert_close(normalised_error(approximated(found, IN - 1), x), torch.zeros((), dtype=torch.float64))
    assert approximated(found, IN).isfinite().all()


def test_pseudo_inverse_stays_in_the_support() -> None:
    directions = drawn(5, IN, 3)
    root, inverse = roots(directions @ directions.T)
    projection = root @ inverse
    torch.testing.assert_close(projection @ directions, directions, rtol=0, atol=1e-8)
    torch.testing.assert_close(projection.trace(), torch.tensor(3.0, dtype=torch.float64))
