"""Grids per token: which values share one, and inputs of another size."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.errors import BadInput
from vitptq.methods.core.quantizers.token_uniform import TokenUniform


def grid() -> TokenUniform:
    """Return a grid for two heads of three tokens."""
    return TokenUniform(2, torch.arange(1.0, 7.0), torch.full((6,), 1.0), axes=(1, 2), sizes=(2, 3))


def test_each_head_and_token_has_its_own_steps() -> None:
    x = 100 * torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(1))
    out = grid()(x)
    for head in range(2):
        for token in range(3):
            step = 1.0 + 3 * head + token
            assert set(out[:, head, token].unique().tolist()) <= {-step, 0.0, step, 2 * step}


def test_groups_are_rows_of_the_grid() -> None:
    x = torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(1))
    rows = grid().groups(grid()(x))
    assert rows.shape == (6, 20)
    for values, row in zip(grid().grid(), rows, strict=True):
        assert set(row.unique().tolist()) <= set(values.tolist())


def test_another_number_of_tokens_is_refused() -> None:
    with pytest.raises(BadInput, match=r"met scales per token for \(2, 3\)"):
        grid()(torch.zeros(4, 2, 4, 5))
