"""Mean inputs and normalised second moments."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.lowrank.input_statistics import InputSums, input_sums
from vitptq.methods.core.model.prepare import prepare


def test_moment_is_the_mean_over_rows_with_an_output() -> None:
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    x[0, 0] = 0
    sums = InputSums(weight, second=True)
    sums.add(x[:1]), sums.add(x[1:])
    rows = x.reshape(-1, 3)[1:].double()
    scaled = rows / (rows @ weight.T.double()).norm(dim=1, keepdim=True)
    torch.testing.assert_close(sums.moment, scaled.T @ scaled / 9, rtol=1e-5, atol=1e-7)
    assert sums.skipped == 1
    torch.testing.assert_close(sums.mean, x.reshape(-1, 3).double().mean(0))


def test_every_layer_sees_all_tokens_of_all_images() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(32, 32))
    sums = input_sums(net, RandomImages(), ["blocks.0.mlp.fc2", "blocks.1.attn.qkv"], second=False)
    assert [each.rows for each in sums.values()] == [8 * 17] * 2
    assert [len(each.mean) for each in sums.values()] == [128, 32]
