"""Mixed-rank compression on a model: full rank, budgets, both readings."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.lowrank.components import by_mean_input, by_second_moment
from vitptq.methods.core.lowrank.factored import Factored, as_linear
from vitptq.methods.core.lowrank.input_statistics import input_sums
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.mixed_rank import MixedRankCnorm, MixedRankXrep
from vitptq.methods.svd import SVD

READINGS = [MixedRankXrep, MixedRankCnorm]


@pytest.mark.parametrize("name", ["ViT", "Swin"])
@pytest.mark.parametrize("second", [False, True])
def test_full_rank_puts_out_the_float_logits(name: str, second: bool) -> None:
    model, images = two_block_models()[name], RandomImages()
    net = prepare(model, BitSpec(32, 32))
    names = [n for n in net.layers if n.endswith(("qkv", "proj", "fc1", "fc2")) and "embed" not in n]
    sums = input_sums(net, images, names, second=second)
    for each in names:
        layer = as_linear(net.model, each)
        weight = layer.weight.double()
        found = by_second_moment(weight, sums[each].moment) if second else by_mean_input(weight, sums[each].mean)
        net = net.replaced({each: Factored(layer, *found.factors(len(found.energy)), net.bits)})
    batch = next(images.batches())
    with torch.no_grad():
        torch.testing.assert_close(net.model(batch), model(batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("cls", READINGS)
def test_error_grows_with_what_is_removed(cls: type[MixedRankCnorm]) -> None:
    model = two_block_models()["ViT"]
    batch = next(RandomImages().batches())
    with torch.no_grad():
        errors = [
            (cls(steps=50, rank=2).quantize(model, RandomImages(), BitSpec(32, 32, removed=r))(batch) - model(batch))
            .square()
            .mean()
            for r in (10, 40, 65)
        ]
    assert errors[0] < errors[1] < errors[2]


def test_normalised_error_beats_plain_svd_on_what_it_was_made_for() -> None:
    model = two_block_models()["ViT"]
    batch = next(RandomImages().batches())
    bits = BitSpec(32, 32, removed=50)
    with torch.no_grad():
        errors = [
            (method.quantize(model, RandomImages(), bits)(batch) - model(batch)).square().mean()
            for method in (MixedRankCnorm(compensation="none"), SVD())
        ]
    assert errors[0] < errors[1]
