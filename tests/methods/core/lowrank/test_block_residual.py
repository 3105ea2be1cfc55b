"""Residuals of a block: trained together, merged exactly, the factors as they were."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.errors import BadInput
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import parameter_counts
from vitptq.methods.core.lowrank.block_residual import WithResidual, with_block_residuals
from vitptq.methods.core.lowrank.components import plain
from vitptq.methods.core.lowrank.factored import Factored, as_linear
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.mixed_rank import MixedRankCnorm

RANK = 4


def factored(name: str) -> tuple[PreparedModel, PreparedModel]:
    """Return a two-block model whose MLPs are in factors of rank 4, attention dense, and the float model."""
    net = prepare(two_block_models()[name], BitSpec(32, 32))
    twin = net.twin()
    for each in [n for n in net.layers if n.endswith(("fc1", "fc2"))]:
        layer = as_linear(net.model, each)
        net = net.replaced({each: Factored(layer, *plain(layer.weight.double()).factors(RANK), net.bits)})
    return net, twin


def trained(name: str, *, rank: int, steps: int) -> tuple[PreparedModel, PreparedModel, list[tuple[float, float]]]:
    """Return the model before and after, and each block's error before and after."""
    net, twin = factored(name)
    before = net.twin()
    with listening() as log:
        net = with_block_residuals(net, twin, RandomImages(), rank=rank, steps=steps, rate=1e-2)
    rows = log.tables["block residuals"].rows
    return before, net, [(row["before"]["loss"], row["after"]["loss"]) for row in rows]  # type: ignore[index, call-overload]


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_error_of_every_block_falls(name: str) -> None:
    *_, errors = trained(name, rank=2, steps=40)
    assert len(errors) >= 2
    assert all(after < before for before, after in errors)


def test_a_residual_of_full_rank_leaves_nearly_no_error_in_the_first_block() -> None:
    *_, errors = trained("ViT", rank=32, steps=400)
    before, after = errors[0]
    assert after < 0.05 * before


def test_the_factors_and_the_dense_layers_stay_as_they_were() -> None:
    before, net, _ = trained("ViT", rank=2, steps=10)
    for name, module in before.model.named_modules():
        if isinstance(module, Factored):
            now = net.model.get_submodule(name)
            assert isinstance(now, Factored) and now.rank == RANK + 2
            assert torch.equal(now.up.weight[:, :RANK], module.up.weight)
            assert torch.equal(now.down.weight[:RANK], module.down.weight)
    old, new = (as_linear(each.model, "blocks.0.attn.qkv") for each in (before, net))
    assert torch.equal(old.weight, new.weight)


def test_merging_leaves_the_output() -> None:
    net, twin = factored("ViT")
    layer = net.model.get_submodule("blocks.0.mlp.fc1")
    assert isinstance(layer, Factored)
    residual = WithResidual(layer, 2, torch.Generator().manual_seed(0))
    residual.down.weight.normal_(generator=torch.Generator().manual_seed(1))
    merged = Factored(as_linear(twin.model, "blocks.0.mlp.fc1"), *residual.merged(), net.bits)
    x = torch.randn(3, 5, layer.down.in_features, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(merged(x), residual(x), rtol=1e-5, atol=1e-6)


def test_without_steps_nothing_changes() -> None:
    model = two_block_models()["ViT"]
    net, _ = factored("ViT")
    (batch,) = RandomImages().batches()
    after = with_block_residuals(net, prepare(model, net.bits), RandomImages(), rank=2, steps=0, rate=1e-2)
    torch.testing.assert_close(after.model(batch), factored("ViT")[0].model(batch), rtol=0, atol=1e-6)


def test_the_residuals_count_in_the_budget() -> None:
    model = two_block_models()["ViT"]
    method = MixedRankCnorm(compensation="block", rank=2, steps=5)
    compressed = method.quantize(model, RandomImages(), BitSpec(32, 32, removed=50))
    kept, whole = (sum(parameter_counts(each).values()) for each in (compressed, model))
    assert 0.4 * whole < kept <= 0.5 * whole


def test_a_closed_form_of_blocks_is_refused() -> None:
    with pytest.raises(BadInput, match='a block\'s residuals are "trained"'):
        MixedRankCnorm(compensation="block", residual="exact")
