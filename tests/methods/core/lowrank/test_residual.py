"""The residual: its loss in moments, training and closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.lowrank.residual import ErrorMoments, exact_residual, trained_residual

OUT, IN, ROWS = 10, 6, 80


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TARGET, X = drawn(0, ROWS, OUT), drawn(1, ROWS, IN)
WEIGHTS = drawn(2, ROWS).square()
WHOLE = X @ drawn(3, IN, OUT) + 0.1 * TARGET


def moments(target: Tensor = WHOLE) -> ErrorMoments:
    weighted = X * WEIGHTS[:, None]
    return ErrorMoments(
        weighted.T @ X / ROWS, target.T @ weighted / ROWS, (target.square().sum(1) * WEIGHTS).sum() / ROWS
    )


def direct(left: Tensor, right: Tensor, target: Tensor = WHOLE) -> Tensor:
    return ((target - X @ (left @ right).T).square().sum(1) * WEIGHTS).sum() / ROWS


def test_loss_in_moments_is_the_direct_error() -> None:
    left, right = drawn(4, OUT, 2), drawn(5, 2, IN)
    torch.testing.assert_close(moments().loss(left, right), direct(left, right), rtol=1e-10, atol=0)


def test_closed_form_of_full_rank_is_the_regression() -> None:
    product = torch.matmul(*exact_residual(moments(), IN))
    expected = torch.linalg.solve(moments().gram, moments().error, left=False)
    torch.testing.assert_close(product, expected, rtol=0, atol=1e-9)


def test_closed_form_is_not_bettered_by_training() -> None:
    exact = moments().loss(*exact_residual(moments(), 2))
    learned = moments().loss(*trained_residual(moments(), 2, steps=3000, rate=1e-2, seed=0))
    assert exact <= learned + 1e-9
    assert learned < 1.05 * exact


def test_error_of_full_rank_approaches_zero_where_it_can() -> None:
    reachable = X @ drawn(3, IN, OUT)
    assert moments(reachable).loss(*exact_residual(moments(reachable), IN)) < 1e-9 * moments(reachable).constant


def test_training_never_raises_the_error() -> None:
    for steps in (0, 1, 50):
        found = moments().loss(*trained_residual(moments(), 2, steps=steps, rate=1e-2, seed=0))
        assert found <= moments().constant
    wild = trained_residual(moments(), 2, steps=1, rate=1e3, seed=0)
    assert not wild[1].any()
