"""Uniform grids of layers, products and folded LayerNorms: no turn makes the output worse."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Linear, MatMul
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.fpcs import Error, FPCSBudget
from vitptq.methods.core.search.recording import Inputs
from vitptq.methods.core.search.uniform_search import (
    UniformSearch,
    fold_norms,
    refuse_float_sides,
    search_layer,
    search_product,
)

W4A4 = BitSpec(4, 4)
BUDGET = FPCSBudget(steps=2)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def output_errors(
    run: Callable[[], Tensor], search: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """Return the error of what `run` puts out, against float, behind each turn of a search."""
    target, found = run(), []
    best = UniformSearch.best

    def turn(self: UniformSearch, error: Error) -> None:
        if not found:
            found.append((run() - target).square().sum().item())
        best(self, error)
        found.append((run() - target).square().sum().item())

    monkeypatch.setattr(UniformSearch, "best", turn)
    search()
    return found


def test_no_turn_makes_the_output_of_a_layer_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, rows = Linear(nn.Linear(8, 12).requires_grad_(False), BitSpec(3, 3)), torch.randn(200, 8).sinh()
    layer.input_operand.on = layer.weight_operand.on = True
    errors = output_errors(
        lambda: layer(rows), lambda: search_layer(layer, Inputs((), (rows,)), BUDGET, 3), monkeypatch
    )
    assert len(errors) == 7
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < 0.95 * errors[0]


def test_no_turn_makes_the_output_of_a_product_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    product = MatMul("query", "key", BitSpec(3, 3), transpose=True)
    product.left_operand.on = product.right_operand.on = True
    sides = torch.randn(2, 4, 2, 9, 6).sinh()
    inputs = Inputs((sides[0],), (sides[1],))
    errors = output_errors(lambda: product(*sides), lambda: search_product(product, inputs, BUDGET, 2), monkeypatch)
    assert len(errors) == 5
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(errors))
    for slot in (product.left_operand, product.right_operand):
        assert isinstance(slot.quantizer, Uniform) and slot.quantizer.granularity == "head"


def test_a_grid_that_the_input_has_already_is_a_candidate_and_not_replaced_by_its_own_error() -> None:
    layer, rows = Linear(nn.Linear(8, 12).requires_grad_(False), W4A4), torch.randn(50, 8)
    folded = layer.input_operand.quantizer = Uniform(4, torch.tensor(0.4), torch.tensor(8.0))
    search_layer(layer, Inputs((), (rows,)), BUDGET, 0)
    assert layer.input_operand.quantizer is folded


def test_a_folded_grid_is_given_up_where_it_is_not_kept() -> None:
    layer, rows = Linear(nn.Linear(8, 12).requires_grad_(False), W4A4), torch.randn(50, 8)
    layer.input_operand.quantizer = Uniform(4, torch.tensor(40.0), torch.tensor(8.0))
    search_layer(layer, Inputs((), (rows,)), BUDGET, 0, keep_folded=False)
    own = layer.input_operand.quantizer
    assert isinstance(own, Uniform) and own.scale < 1


def test_float_sides_are_refused() -> None:
    with pytest.raises(Unsupported, match="AdaLog has no form with float weights or activations"):
        refuse_float_sides(prepare(two_block_models()["ViT"], BitSpec(32, 8)), "AdaLog")


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_folding_leaves_the_float_function_and_gives_whole_zero_points(name: str) -> None:
    model = two_block_models()[name]
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.2, 3)
            nn.init.normal_(module.bias)
    net = prepare(model, W4A4)
    fold_norms(net, RandomImages(), FPCSBudget(steps=1))
    (images,) = RandomImages().batches()
    torch.testing.assert_close(net.model(images), model(images), rtol=1e-4, atol=1e-5)
    for _, readers in net.norm_readers():
        grid = readers[0].input_operand.quantizer
        assert isinstance(grid, Uniform) and grid.zero_point == grid.zero_point.round()
