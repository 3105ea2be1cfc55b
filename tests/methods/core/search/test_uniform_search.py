"""The progressive search and its errors, against loops over what the quantizers really put out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Linear, MatMul
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.product_search import (
    FirstImages,
    Reads,
    each_operator,
    input_error,
    per_head,
    per_row,
    side_error,
    uniform_grids,
    weight_error,
)
from vitptq.methods.core.search.progressive import Progress, own_error, progressive, uniform_candidates
from vitptq.methods.core.search.uniform_search import fold_norms, search_layer

W4A4 = BitSpec(4, 4)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def linear(inputs: int, outputs: int, bits: BitSpec = W4A4) -> Linear:
    return Linear(nn.Linear(inputs, outputs).requires_grad_(False), bits)


@pytest.mark.parametrize("bits", [3, 4, 6, 8])
def test_candidates_reach_the_range_of_the_values(bits: int) -> None:
    x = torch.randn(3, 400) + torch.tensor([[0.0], [0.5], [20.0]])
    found = uniform_candidates(x, bits, holds_zero=False)
    full = (x.amax(1) - x.amin(1)) / (2**bits - 1)
    torch.testing.assert_close(found.scale.amax(1), full)
    widest = found.scale == found.scale.amax(1, keepdim=True)
    centre = (-x.amin(1) / full).round()
    assert ((found.zero - centre[:, None]).abs()[widest] <= 8).all()
    assert (widest & (found.zero == centre[:, None])).any(1).all()


def test_a_tensor_without_negative_values_keeps_all_its_codes() -> None:
    found = uniform_candidates(torch.rand(2, 300).relu(), 8)
    assert (found.zero == 0).all()


def test_the_survivors_stay_and_finer_steps_only_help() -> None:
    x = torch.randn(5, 700).sinh()
    error = own_error(x, 3)
    candidates = uniform_candidates(x, 3)
    errors = []
    for steps in (1, 2, 4, 6):
        scale, zero = progressive(candidates, error, Progress(steps=steps))
        errors.append(error(scale[:, None], zero[:, None])[:, 0])
        if steps == 1:
            torch.testing.assert_close(errors[0], error(candidates.scale, candidates.zero).amin(1))
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(errors))
    assert (errors[-1] < errors[0]).any()


def test_each_row_finds_what_it_finds_alone() -> None:
    x = torch.randn(4, 300) * torch.tensor([[1.0], [3.0], [0.1], [9.0]])
    together = progressive(uniform_candidates(x, 4), own_error(x, 4))
    for i, row in enumerate(x):
        alone = progressive(uniform_candidates(row[None], 4), own_error(row[None], 4))
        assert all(a[i] == b[0] for a, b in zip(together, alone, strict=True))


def grids(rows: int, count: int, bits: int = 4) -> tuple[Tensor, Tensor]:
    return torch.rand(rows, count) * 0.2 + 0.05, torch.randint(0, 2**bits, (rows, count)).float()


@pytest.mark.parametrize("outputs", [3, 11])
def test_errors_of_a_linear_layer_are_those_of_its_output(outputs: int) -> None:
    layer, rows = linear(6, outputs), torch.randn(50, 6)
    target = layer(rows)
    layer.input_operand.on = layer.weight_operand.on = True
    layer.input_operand.quantizer = Uniform(4, torch.tensor(0.3), torch.tensor(7.0))
    scale, zero = grids(outputs, 4)
    found = weight_error(layer, rows)(scale, zero)
    for k in range(4):
        layer.weight_operand.quantizer = per_row(layer, scale[:, k], zero[:, k])
        torch.testing.assert_close(found[:, k], (layer(rows) - target).square().mean(0))

    scale, zero = grids(1, 4)
    found = input_error(layer, rows, uniform_grids(4))(scale, zero)
    for k in range(4):
        layer.input_operand.quantizer = Uniform(4, scale[:, k], zero[:, k])
        torch.testing.assert_close(found[0, k], (layer(rows) - target).square().sum(1).mean())


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("left", [True, False])
def test_errors_of_a_product_are_those_of_its_output(transpose: bool, left: bool) -> None:
    product = MatMul("query", "key", W4A4, transpose=transpose)
    calls = [
        (torch.randn(n, 2, 5, 4), torch.randn(n, 2, 5, 4) if transpose else torch.randn(n, 2, 4, 3)) for n in (3, 2)
    ]
    reads = Reads(*zip(*calls, strict=True))
    targets = [product(*call) for call in calls]
    product.left_operand.on = product.right_operand.on = True
    varied, other = (product.left_operand, product.right_operand)[:: 1 if left else -1]
    other.quantizer = Uniform(4, torch.tensor(0.4), torch.tensor(8.0))
    scale, zero = grids(2, 3)
    found = side_error(product, reads, left=left)(scale, zero)
    for k in range(3):
        varied.quantizer = per_head(4, scale[:, k], zero[:, k])
        errors = [(product(*call) - t).square().mean((2, 3)).sum(0) for call, t in zip(calls, targets, strict=True)]
        torch.testing.assert_close(found[:, k], sum(errors) / 5)


def test_no_half_round_makes_the_output_worse() -> None:
    layer, rows = linear(8, 12, BitSpec(3, 3)), torch.randn(200, 8).sinh()
    told: list[float] = []
    search_layer(layer, Reads((), (rows,)), Progress(steps=2), 3, lambda side, error: told.append(error))
    assert len(told) == 6
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(told))


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_folding_leaves_the_float_function_and_gives_whole_zero_points(name: str) -> None:
    model = two_block_models()[name]
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.2, 3)
            nn.init.normal_(module.bias)
    net = prepare(model, W4A4)
    fold_norms(net, RandomImages(), Progress(steps=1))
    (images,) = RandomImages().batches()
    torch.testing.assert_close(net.model(images), model(images), rtol=1e-4, atol=1e-5)
    for _, readers in net.norm_readers():
        grid = readers[0].input_operand.quantizer
        assert isinstance(grid, Uniform) and grid.zero_point == grid.zero_point.round()


def test_every_operator_comes_once_in_execution_order_and_with_what_it_reads() -> None:
    net = prepare(two_block_models()["ViT"], W4A4)
    found = {name: reads for name, _, reads in each_operator(net, FirstImages(RandomImages(), 3))}
    assert list(found)[:4] == ["patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.qk", "blocks.0.attn.av"]
    assert len(found) == 14
    assert found["blocks.0.attn.qkv"].second[0].shape == (3 * 17, 32)
    assert found["blocks.0.attn.av"].first[0].shape == (3, 2, 17, 17)
