"""Grids of attention factors by their bounds."""

from __future__ import annotations

import torch

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.search.bound_search import BoundSearch
from vitptq.methods.core.search.recording import Inputs


def test_bounds_lie_between_the_quantiles_and_more_choices_never_hurt() -> None:
    torch.manual_seed(0)
    product = MatMul("query", "key", BitSpec(3, 3), transpose=True)
    inputs = Inputs((torch.randn(8, 2, 9, 6).sinh(),), (torch.randn(8, 2, 9, 6).sinh(),))
    search = BoundSearch.of_side(product, inputs, left=True, count=32)
    errors = [search.choose("both"), search.choose("lower"), search.choose("upper")]
    assert (errors[1] <= errors[0]).all() and (errors[2] <= errors[1]).all()
    heads = inputs.first[0].transpose(0, 1).flatten(1)
    assert (search.high <= heads.quantile(0.99999, dim=1) + 1e-5).all()
    assert (search.high >= heads.quantile(0.99, dim=1) - 1e-5).all()
    assert (search.low <= heads.quantile(0.01, dim=1) + 1e-5).all()


def test_a_side_is_searched_with_the_other_on_the_last_pair_of_bounds() -> None:
    torch.manual_seed(0)
    product = MatMul("query", "key", BitSpec(3, 3), transpose=True)
    inputs = Inputs((torch.randn(4, 2, 9, 6),), (torch.randn(4, 2, 9, 6),))
    left, right = (BoundSearch.of_side(product, inputs, left=side, count=8) for side in (True, False))
    assert torch.equal(right.high, right.uppers[:, -1]) and torch.equal(right.low, right.lowers[:, -1])
    rounded = left.choose("both")
    product.right_operand.quantizer = None
    assert not torch.equal(left.choose("both"), rounded)
