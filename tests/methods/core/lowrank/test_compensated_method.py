"""The residual of each layer, within the same budget."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import parameter_counts
from vitptq.methods.mixed_rank import MixedRankCnorm

BITS = BitSpec(32, 32, removed=50)


def test_residual_of_rank_zero_is_no_compensation() -> None:
    model = two_block_models()["ViT"]
    one, other = (
        method.quantize(model, RandomImages(), BITS).state_dict()
        for method in (MixedRankCnorm(rank=0), MixedRankCnorm(compensation="none"))
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_residual_counts_in_the_budget_and_lowers_every_layers_error() -> None:
    model = two_block_models()["ViT"]
    with listening() as log:
        compressed = MixedRankCnorm(rank=2, steps=50).quantize(model, RandomImages(), BITS)
    rows = [row for row in log.tables["kept ranks"].rows if row["kept rank"] is not None]
    assert rows
    assert all(row["error with residual"] <= row["error without residual"] for row in rows)  # type: ignore[operator]
    assert 2 * sum(parameter_counts(compressed).values()) <= sum(parameter_counts(model).values())


@pytest.mark.parametrize("residual", ["trained", "exact"])
def test_same_seed_gives_the_same_factors(residual: str) -> None:
    method = MixedRankCnorm.configured({"residual": residual, "rank": 2, "steps": 20})
    one, other = (method.quantize(two_block_models()["ViT"], RandomImages(), BITS).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
