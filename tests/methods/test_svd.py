"""Plain SVD."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.lowrank.factored import Factored
from vitptq.methods.svd import SVD


def test_factors_are_the_best_approximation_of_their_rank() -> None:
    model = two_block_models()["ViT"]
    compressed = SVD().quantize(model, RandomImages(), BitSpec(32, 32, removed=40))
    found = [(name, m) for name, m in compressed.named_modules() if isinstance(m, Factored)]
    for name, factored in found:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        error = (weight - factored.up.weight @ factored.down.weight).square().sum()
        tail = torch.linalg.svdvals(weight.detach())[factored.rank :].square().sum()
        torch.testing.assert_close(error, tail, rtol=1e-3, atol=1e-6)
    assert len(found) == 8
