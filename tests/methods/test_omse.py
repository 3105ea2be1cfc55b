"""OMSE: never a larger error than min-max, on the last batch and on the weights."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import least_error, min_max
from vitptq.methods.core.ranges.shrunk import shrunk
from vitptq.methods.minmax import MinMax
from vitptq.methods.omse import OMSE, LeastError


def test_candidates_shrink_the_range_of_all_batches_and_the_last_one_chooses() -> None:
    first, last = torch.tensor([[-8.0, 8.0]]), torch.randn(1, 200, generator=torch.Generator().manual_seed(1))
    observer = LeastError()
    observer.see(first, bits=3, last=False)
    observer.see(last, bits=3, last=True)
    expected = least_error(last, *shrunk(*min_max(torch.cat([first, last], dim=1))), 3)
    assert all(torch.equal(a, b) for a, b in zip(observer.range(), expected, strict=True))
    assert observer.range()[1].item() < 8


@pytest.mark.parametrize("symmetric", [False, True])
def test_searched_weights_have_at_most_the_error_of_minmax(symmetric: bool) -> None:
    model, bits = two_block_models()["ViT"], BitSpec(3, 8)
    methods = (MinMax(w_symmetric=symmetric), OMSE(w_observer="omse", w_symmetric=symmetric))
    errors = []
    for method in methods:
        layer = method.quantize(model, RandomImages(), bits).get_submodule("blocks.0.mlp.fc1")
        quantizer = layer.get_submodule("weight_operand.quantizer")
        assert isinstance(quantizer, Uniform)
        errors.append((quantizer(layer.weight) - layer.weight).square().sum(1))
    assert (errors[1] <= errors[0] * (1 + 1e-5)).all()
    assert errors[1].sum() < errors[0].sum()
