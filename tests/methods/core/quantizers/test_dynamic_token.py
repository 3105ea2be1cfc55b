"""A grid for every token."""

from __future__ import annotations

import pytest
import torch

from vitptq.methods.core.quantizers.dynamic_token import DynamicToken

X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0])[:, None, None]


def test_each_token_keeps_its_extremes_whatever_the_others_span() -> None:
    found = DynamicToken(8)(X)
    step = (X.amax(-1) - X.amin(-1)) / 255
    assert ((found - X).abs().amax(-1) <= 0.51 * step + 1e-6).all()


def test_values_lie_on_the_grids_of_their_tokens() -> None:
    quantizer = DynamicToken(3)
    rows = quantizer.groups(quantizer(X))
    assert quantizer.grid().shape == (10, 8)
    assert ((rows[:, :, None] - quantizer.grid()[:, None]).abs().amin(2) < 1e-6 * rows.abs().amax()).all()


def test_clipping_shrinks_the_grid() -> None:
    whole, clipped = DynamicToken(4), DynamicToken(4, clip=0.5)
    whole(X), clipped(X)
    assert (clipped.grid().amax(1) < whole.grid().amax(1)).all()


def test_grid_before_any_tensor_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no token has a grid"):
        DynamicToken(4).grid()
