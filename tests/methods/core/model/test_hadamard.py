"""Hadamard matrices: orthogonal for every width of the models, and applied without a product."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.hadamard import core_of, hadamard, random_signs, randomised_hadamard, times_hadamard


@pytest.mark.parametrize("order", [1, 2, 16, 24, 32, 48, 64, 72, 80, 96, 384])
def test_rows_are_signs_and_orthogonal(order: int) -> None:
    matrix = hadamard(order)
    assert set(matrix.unique().tolist()) <= {1.0, -1.0}
    torch.testing.assert_close(matrix @ matrix.T, order * torch.eye(order, dtype=matrix.dtype))


def test_a_random_rotation_has_entries_of_one_size() -> None:
    matrix = randomised_hadamard(random_signs(24, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(matrix.abs(), torch.full_like(matrix, 24**-0.5))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(24, dtype=matrix.dtype))


@pytest.mark.parametrize("order", [1, 2, 16, 48, 384])
def test_additions_alone_give_the_product(order: int) -> None:
    x = torch.randn(2, 3, order, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(times_hadamard(x, core_of(order)), x @ hadamard(order).T)


def test_an_order_without_a_matrix_is_named() -> None:
    with pytest.raises(Unsupported, match="order 36"):
        hadamard(36)
