"""A change is taken back completely: values, missing entries, classes."""

from __future__ import annotations

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.divided_linear import divide_input
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.model.snapshot import Snapshot


def linear(*, bias: bool) -> Linear:
    torch.manual_seed(1)
    plain = nn.Linear(4, 3, bias=bias)
    plain.requires_grad_(False)
    return Linear(plain, BitSpec(4, 4))


def test_a_fold_is_taken_back_with_the_bias_that_it_made() -> None:
    norm, reader = nn.LayerNorm(4).requires_grad_(False), linear(bias=False)
    weight = reader.weight.clone()
    before = Snapshot([norm, reader])
    fold_into_layer_norm(norm, (reader,), scale=torch.full((4,), 2.0), shift=torch.ones(4))
    before.restore()
    assert reader.bias is None and torch.equal(reader.weight, weight)
    assert (norm.weight == 1).all() and (norm.bias == 0).all()


def test_a_division_is_taken_back_with_its_class() -> None:
    layer = linear(bias=True)
    x, weight = torch.randn(2, 4), layer.weight
    expected = layer(x)
    before = Snapshot([layer])
    divide_input(layer, torch.full((4,), 3.0))
    before.restore()
    assert type(layer) is Linear and layer.weight is weight and "divisor" not in dict(layer.named_buffers())
    assert torch.equal(layer(x), expected)
