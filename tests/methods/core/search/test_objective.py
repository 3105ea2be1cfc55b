"""Losses by hand: cosine distances and weighted errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitptq.methods.core.search.objective import (
    ALL_POSITIONS,
    CHANNELS,
    Cosine,
    SquaredError,
    cosine_distance,
    group_sums,
)


def test_group_sums_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert group_sums(x, None).tolist() == [[10]]
    assert group_sums(x, torch.tensor([0, 1, 1, 0])).tolist() == [[5, 5]]
    assert group_sums(x, torch.tensor([0, 0, 1, 2])).tolist() == [[3, 3, 4]]


def test_cosine_by_hand() -> None:
    target = torch.tensor([[1.0, 0.0], [0.0, 2.0]])[None, None]  # one image, one head, two tokens of two channels
    error = torch.tensor([[3.0, 4.0], [0.0, 0.0]])[None, None, None] - target
    by_token = Cosine(axes=CHANNELS).losses(error.clone(), target, None)
    assert by_token.tolist() == [[[pytest.approx(0.4 + 1)]]]  # 1 - 3 / 5, and 1 for the token that vanished
    whole = Cosine(axes=ALL_POSITIONS).losses(error.clone(), target, None)
    assert whole.tolist() == [[[pytest.approx(1 - 3 / (5 * 5**0.5))]]]


def test_cosine_distance_of_nearly_equal_vectors_is_not_rounding() -> None:
    torch.manual_seed(0)
    target = torch.randn(200, 64, dtype=torch.float64)
    error = 1e-4 * torch.randn(200, 64, dtype=torch.float64)
    expected = 1 - nn.functional.cosine_similarity(target, target + error, dim=-1)
    parts = (error.square().sum(-1), (target * error).sum(-1), target.square().sum(-1))
    found = cosine_distance(*(part.float() for part in parts))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("axes", [CHANNELS, ALL_POSITIONS])
@pytest.mark.parametrize("exponent", [3, 7, 11, 15, 19])
def test_cosine_distance_of_faint_outputs_is_not_rounding(exponent: int, axes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    target = torch.randn(5, 2, 7, 32)
    # an error of float32 keeps so short an output to about 2^(exponent - 25) of its length
    out = (target + torch.randn(3, *target.shape)) * 2.0**-exponent
    exact = Cosine(axes=axes).losses(out.double() - target.double(), target.double(), None)
    found = Cosine(axes=axes).losses(out - target, target, None)
    torch.testing.assert_close(found.double(), exact, rtol=max(1e-4, 2.0 ** (exponent - 25)), atol=0)


def test_cosine_of_one_token_is_the_same_by_token_and_whole() -> None:
    error, target = torch.randn(4, 3, 2, 1, 5), torch.randn(3, 2, 1, 5)
    by_token = Cosine(by_head=True, axes=CHANNELS).losses(error.clone(), target, None)
    assert by_token.shape == (4, 3, 2)
    torch.testing.assert_close(by_token, Cosine(by_head=True, axes=(-2, -1)).losses(error.clone(), target, None))


def test_weighted_error_by_hand() -> None:
    target, gradient = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[2.0, 0.5]]]])
    error = torch.tensor([[[[[2.0, 4.0]]]], [[[[1.0, 3.0]]]]]) - target
    assert SquaredError().losses(error.clone(), target, gradient).flatten().tolist() == [5, 0.25]
    assert SquaredError().losses(error.clone(), target, None).flatten().tolist() == [5, 1]
    apart = SquaredError(torch.tensor([0, 1])).losses(error.clone(), target, None)
    assert apart.tolist() == [[[1, 4]], [[0, 1]]]
