"""Two linear layers in place of one."""

from __future__ import annotations

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.lowrank.factored import Factored
from vitptq.methods.core.model.operands import Linear


def test_full_rank_is_the_layer() -> None:
    layer = Linear(nn.Linear(6, 4), BitSpec(8, 8), "gelu")
    u, s, v = torch.linalg.svd(layer.weight.detach(), full_matrices=False)
    factored = Factored(layer, u * s, v, BitSpec(8, 8))
    x = torch.randn(2, 3, 6)
    torch.testing.assert_close(factored(x), layer(x), rtol=1e-5, atol=1e-5)
    assert factored.rank == 4


def test_first_factor_reads_what_the_layer_read() -> None:
    layer = Linear(nn.Linear(6, 4), BitSpec(8, 4), "gelu")
    factored = Factored(layer, torch.zeros(4, 2), torch.zeros(2, 6), BitSpec(8, 4))
    assert (factored.down.input_operand.role, factored.up.input_operand.role) == ("gelu", "input")
    assert factored.up.input_operand.bits == 4
