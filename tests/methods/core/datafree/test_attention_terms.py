"""MaskAQ's terms on attention scores, by hand and by what must hold for any."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vitptq.methods.core.datafree.attention_terms import (
    attention_to_keys,
    entropy_of_patches,
    heads_apart,
    informative_keys,
    masked_difference,
    thinned,
)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(heads: int = 3, tokens: int = 10, images: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(images, heads, tokens, tokens, generator=draws(seed))


def test_heads_with_one_map_are_not_apart_and_others_are() -> None:
    same = scores(heads=1).expand(-1, 3, -1, -1)
    assert heads_apart([same, 5 * same + 2], 1) == pytest.approx(0, abs=1e-5)  # maps are stretched to 0..1
    assert heads_apart([scores()], 1) > 0.2


def test_similarity_of_two_heads_by_hand() -> None:
    maps = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]])  # opposite heads, one query
    one = maps[None, :, None].repeat(1, 1, 3, 1)
    mean, variance = 0.5, 1 / 6
    ssim = (2 * mean**2 + 1e-4) * (-2 * variance + 9e-4) / ((2 * mean**2 + 1e-4) * (2 * variance + 9e-4))
    assert heads_apart([one], 0) == pytest.approx((1 - ssim**2) / 2, abs=1e-4)  # a head beside itself has 1


def test_the_class_token_counts_in_no_term() -> None:
    changed = scores()
    changed[:, :, 0] += 3
    changed[..., 0] -= 3
    assert heads_apart([changed], 1) == heads_apart([scores()], 1)
    found, expected = (entropy_of_patches([x], 1, draws()) for x in (changed, scores()))
    assert found == expected


def test_the_entropy_is_that_of_a_normal_distribution_of_the_cosines() -> None:
    rows = torch.eye(4)[None, None]  # cosines: 4 of 1, 12 of 0
    variance = 0.25 - 0.25**2
    expected = 0.5 * math.log(2 * math.pi * math.e * variance)
    assert entropy_of_patches([rows], 0, draws()) == pytest.approx(expected, abs=1e-5)


def test_equal_patches_have_less_entropy_than_different_ones() -> None:
    equal = torch.ones(1, 2, 9, 9) + 0.01 * scores(2, 9, 1)
    assert entropy_of_patches([equal], 0, draws()) < entropy_of_patches([scores(2, 9, 1)], 0, draws()) - 1


def test_attention_is_the_class_tokens_or_a_mean_over_queries() -> None:
    x = scores()
    torch.testing.assert_close(attention_to_keys(x, 1), x.mean(1)[:, 0, 1:])
    torch.testing.assert_close(attention_to_keys(x, 0), x.mean((1, 2)))


def test_the_mask_holds_the_share_of_the_keys_with_most_attention() -> None:
    mask = informative_keys(torch.tensor([[1.0, 5.0, 3.0, 2.0], [0.0, -1.0, -2.0, -3.0]]), 0.5)
    assert mask.tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]
    assert informative_keys(torch.rand(2, 5), 0.01).sum(1).tolist() == [1, 1]


def test_thinning_keeps_seven_of_ten_and_adds_none() -> None:
    mask = informative_keys(torch.rand(4, 40, generator=draws()), 0.25)
    found = thinned(mask, draws())
    assert found.sum(1).tolist() == [7] * 4
    assert (found <= mask).all()
    assert thinned(informative_keys(torch.rand(2, 5), 0.2), draws()).sum(1).tolist() == [1, 1]


def test_the_difference_is_seen_inside_the_mask_alone() -> None:
    expected = [scores(seed=s) for s in (1, 2)]
    whole = attention_to_keys(torch.stack(expected).mean(0), 1)
    least = whole.argmin(dim=1) + 1  # the key that no mask holds
    found = [x.clone() for x in expected]
    for x in found:
        x[range(2), :, 0, least] += 100
    assert masked_difference(expected, found, 1, 0.5, draws()) == 0
    assert masked_difference(expected, [x + 1 for x in expected], 1, 0.5, draws()) == pytest.approx(1, abs=1e-4)


def test_layers_of_different_shapes_have_masks_of_their_own() -> None:
    expected = [scores(tokens=9), scores(heads=2, tokens=4, images=8)]
    assert masked_difference(expected, [x + 1 for x in expected], 0, 0.5, draws()) == pytest.approx(1, abs=1e-4)
