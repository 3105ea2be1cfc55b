"""Candidates of one side: their scales by hand, and that they are what their quantizers put out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.search.candidates import (
    Grouping,
    asymmetric,
    by_index,
    default_grouping,
    multiples,
    symmetric,
    whole_tensor,
)


def test_multiples_never_reach_the_last_factor() -> None:
    factors = multiples(0.5, 1.2, 100)
    assert len(factors) == 100 and factors[0] == 0.5
    assert factors[-1].item() == pytest.approx(1.2 - 0.007)


def test_start_scale_by_hand() -> None:
    x = torch.tensor([[1.0, -3.0], [0.5, 0.25], [2.0, 2.0]])
    assert whole_tensor().starts(x, 3).tolist() == pytest.approx([3 / 3.5])
    rows = Grouping(0, torch.tensor([0, 1, 1]), "channel")
    assert rows.starts(x, 3).tolist() == pytest.approx([3 / 3.5, 2 / 3.5])
    quantizer = symmetric(rows, x, 3, torch.tensor([1.0, 0.5])).quantizer(torch.tensor([1, 0]))
    assert quantizer.scale.tolist() == pytest.approx([1.5 / 3.5, 2 / 3.5, 2 / 3.5])
    assert (quantizer.low, quantizer.high) == (-4, 3)


@pytest.mark.parametrize("build", [symmetric, asymmetric])
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_candidates_are_what_their_quantizers_put_out(build: Any, axis: int | None) -> None:
    x = torch.randn(2, 3, 4, 5) + 0.3
    group = whole_tensor() if axis is None else by_index(x, axis)
    candidates = build(group, x, 4, torch.tensor([0.4, 1.0]))
    many = candidates(x, torch.arange(2))
    for place, rounded in enumerate(many):
        assert torch.equal(rounded, candidates.quantizer(torch.tensor([place]))(x))
    assert torch.equal(many[1], candidates.default()(x))  # factor 1


def test_groups_may_choose_different_candidates() -> None:
    x = torch.randn(3, 40)
    candidates = symmetric(by_index(x, 0, judged=True), x, 4, torch.tensor([0.4, 1.0]))
    many, chosen = candidates(x, torch.arange(2)), candidates.quantizer(torch.tensor([1, 0, 1]))(x)
    assert torch.equal(chosen, torch.stack([many[1, 0], many[0, 1], many[1, 2]]))


def test_channels_above_zero_do_not_overflow_the_zero_point() -> None:
    x = torch.rand(200, 3) + 2
    candidates = asymmetric(by_index(x, -1), x, 8, torch.ones(1))
    assert ((candidates.default()(x) - x).abs() <= candidates.start / 2 + 1e-6).all()


def test_joint_query_key_value_rows_have_three_scales() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 4))
    layer: Any = net.model.get_submodule("blocks.0.attn.qkv")
    group = default_grouping(net, "blocks.0.attn.qkv", layer, "first", layer.weight)
    assert group.starts(layer.weight, 4).shape == (3,)
    assert group.groups is not None and group.groups.bincount().tolist() == [32, 32, 32]
