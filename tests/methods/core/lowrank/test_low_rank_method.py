"""From a float model to factors within a budget."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit, parameter_counts
from vitptq.methods.core.lowrank.factored import Factored
from vitptq.methods.svd import SVD

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("name", ["ViT", "Swin"])
@pytest.mark.parametrize("removed", [10, 40])
def test_built_model_has_as_many_parameters_as_the_spec_allows(name: str, removed: int) -> None:
    model = two_block_models()[name]
    compressed = SVD().quantize(model, RandomImages(), BitSpec(32, 32, removed=removed))
    kept, whole = (sum(parameter_counts(each).values()) for each in (compressed, model))
    assert 0.95 * (100 - removed) * whole < 100 * kept <= (100 - removed) * whole


def test_audit_accepts_factors_and_sees_that_a_budget_is_missed() -> None:
    model = two_block_models()["ViT"]
    float_audit = audit(model, FLOAT, IMAGE, RandomImages().forward)
    compressed = SVD().quantize(model, RandomImages(), BitSpec(32, 32, removed=30))
    for removed, expected in ((30, 0), (60, 1)):
        bits = BitSpec(32, 32, removed=removed)
        found = audit(compressed, bits, IMAGE, RandomImages().forward, float_audit=float_audit)
        assert len(found.violations) == expected, found.violations
    assert found.macs < float_audit.macs


def test_layers_outside_attention_blocks_stay_dense() -> None:
    compressed = SVD().quantize(two_block_models()["Swin"], RandomImages(), BitSpec(32, 32, removed=40))
    factored = [name for name, module in compressed.named_modules() if isinstance(module, Factored)]
    assert factored
    assert all(".blocks." in name for name in factored)


def test_least_rank_that_breaks_the_budget_is_refused() -> None:
    with pytest.raises(Unsupported, match="remove a smaller percentage|the budget is"):
        SVD(least_rank=20).quantize(two_block_models()["ViT"], RandomImages(), BitSpec(32, 32, removed=60))


def test_dense_specs_are_refused() -> None:
    with pytest.raises(Unsupported, match="W8A8\\+lowrank60"):
        SVD().quantize(two_block_models()["ViT"], RandomImages(), BitSpec(8, 8))
