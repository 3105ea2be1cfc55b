"""Searches over scales: many candidates at a time against a plain loop, for every kind of operator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.bits import BitSpec
from bench.contract import RandomImages, two_block_models
from methods.core.explicit import explicit
from methods.core.operands import Conv2d, ConvTranspose2d, Linear, MatMul
from methods.core.search import (
    MEGABYTE,
    Grouping,
    Operator,
    Side,
    Trace,
    cosine,
    group_sums,
    grouping,
    multiples,
    operators,
    outputs,
    record,
    search,
    weighted_error,
)

BITS = BitSpec(4, 4)
OPERATORS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: Linear(nn.Linear(6, 9), BITS), (3, 5, 6)),
    "linear without bias on vectors": (lambda: Linear(nn.Linear(6, 4, bias=False), BITS), (3, 6)),
    "convolution": (lambda: Conv2d(nn.Conv2d(6, 8, 3, padding=1), BITS), (3, 6, 5, 4)),
    "grouped convolution": (lambda: Conv2d(nn.Conv2d(6, 9, 3, groups=3, stride=2), BITS), (3, 6, 7, 7)),
    "depthwise convolution": (lambda: Conv2d(nn.Conv2d(6, 6, 3, groups=6, bias=False), BITS), (3, 6, 5, 5)),
    "depthwise with a multiplier": (lambda: Conv2d(nn.Conv2d(4, 8, 3, groups=4), BITS), (3, 4, 5, 5)),
    "transposed convolution": (lambda: ConvTranspose2d(nn.ConvTranspose2d(6, 5, 3, stride=2), BITS), (3, 6, 4, 3)),
    "queries and keys": (lambda: MatMul("query", "key", BITS, transpose=True), (3, 2, 5, 6)),
    "probabilities and values": (lambda: MatMul("softmax", "value", BITS), (3, 2, 5, 5)),
}


@pytest.fixture(params=OPERATORS)
def trace(request: pytest.FixtureRequest) -> Trace:
    torch.manual_seed(1)
    build, shape = OPERATORS[request.param]
    operator: Operator = build().requires_grad_(False)
    second = torch.randn(shape)
    first = torch.randn(shape) if isinstance(operator, MatMul) else operator.weight
    output = run(operator, first, second)
    return Trace(operator, first, second, output, gradient=torch.randn(output.shape))


def run(operator: Operator, first: Tensor, second: Tensor) -> Tensor:
    """Run an operator by its own forward, on given sides."""
    if isinstance(operator, MatMul):
        return operator(first, second)
    kept, operator.weight = operator.weight, nn.Parameter(first, requires_grad=False)
    try:
        return operator(second)
    finally:
        operator.weight = kept


@pytest.mark.parametrize("side", ["first", "second"])
def test_outputs_of_many_candidates_equal_a_loop(trace: Trace, side: Side) -> None:
    x = getattr(trace, side)
    candidates = torch.stack([x * factor for factor in (0.5, 1.0, 1.7, -2.0)])
    if side == "first":
        many = outputs(trace.operator, candidates, trace.second, side)
        loop = [run(trace.operator, candidate, trace.second) for candidate in candidates]
    else:
        many = outputs(trace.operator, trace.first, candidates, side)
        loop = [run(trace.operator, trace.first, candidate) for candidate in candidates]
    torch.testing.assert_close(many, torch.stack(loop))


@pytest.mark.parametrize("memory", [1, 3000, MEGABYTE])
@pytest.mark.parametrize("side", ["first", "second"])
def test_search_finds_what_a_loop_finds_whatever_the_memory(trace: Trace, side: Side, memory: int) -> None:
    operator, x = trace.operator, getattr(trace, side)
    group = grouping(None, "layer", operator, side, x)  # type: ignore[arg-type]
    scales = multiples(group.starts(x, 4), 0.3, 1.2, 11)
    score = weighted_error(group.groups if group.axis == 0 else None, by_head=group.granularity == "head")
    other = trace.second if side == "first" else trace.first
    best = search(trace, side, other, 11, group.candidates(scales, 4), score, memory)

    errors = []
    for row in scales:
        rounded = group.quantizer(row, 4)(x)
        out = run(operator, rounded, other) if side == "first" else run(operator, other, rounded)
        error = ((out - trace.output) * trace.gradient).square()  # type: ignore[operator]
        axis = group.axis if group.axis is not None else None
        errors.append(error.sum().reshape(1) if axis is None else error.movedim(1, 0).flatten(1).sum(1))
    assert torch.equal(best, torch.stack(errors).argmin(0))


def test_group_sums_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert group_sums(x, None).tolist() == [[10]]
    assert group_sums(x, torch.tensor([0, 1, 1, 0])).tolist() == [[5, 5]]
    assert group_sums(x, torch.tensor([0, 0, 1, 2])).tolist() == [[3, 3, 4]]


def test_multiples_never_reach_the_last_factor() -> None:
    grid = multiples(torch.tensor([2.0, 4.0]), 0.5, 1.2, 100)
    assert grid.shape == (100, 2)
    assert grid[0].tolist() == [1, 2]
    assert grid[-1, 0].item() == pytest.approx(2 * (1.2 - 0.007))


def test_start_scale_by_hand() -> None:
    x = torch.tensor([[1.0, -3.0], [0.5, 0.25], [2.0, 2.0]])
    assert Grouping(None, None, "tensor").starts(x, 3).tolist() == pytest.approx([3 / 3.5])
    rows = Grouping(0, torch.tensor([0, 1, 1]), "channel")
    assert rows.starts(x, 3).tolist() == pytest.approx([3 / 3.5, 2 / 3.5])
    quantizer = rows.quantizer(torch.tensor([1.0, 2.0]), 3)
    assert quantizer.scale.tolist() == [1, 2, 2]
    assert (quantizer.low, quantizer.high) == (-4, 3)


def test_cosine_by_hand() -> None:
    target = torch.tensor([[1.0, 0.0], [0.0, 2.0]])[None, None]  # one image, one head, two tokens of two channels
    out = torch.tensor([[3.0, 4.0], [0.0, 0.0]])[None, None, None]
    by_token = cosine((-1,), None, by_head=False)(out, target, None)
    assert by_token.tolist() == [[pytest.approx(0.6)]]  # 3 / 5, and 0 for the token that vanished
    whole = cosine((-3, -2, -1), None, by_head=False)(out, target, None)
    assert whole.tolist() == [[pytest.approx(3 / (5 * 5**0.5))]]


def test_cosine_of_one_token_is_the_same_by_token_and_whole() -> None:
    out, target = torch.randn(4, 3, 2, 1, 5), torch.randn(3, 2, 1, 5)
    by_token = cosine((-1,), None, by_head=True)(out, target, None)
    torch.testing.assert_close(by_token, cosine((-2, -1), None, by_head=True)(out, target, None))


def test_weighted_error_by_hand() -> None:
    target, gradient = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[2.0, 0.5]]]])
    out = torch.tensor([[[[[2.0, 4.0]]]], [[[[1.0, 3.0]]]]])
    score = weighted_error(None, by_head=False)
    assert score(out.clone(), target, gradient).tolist() == [[-5], [-0.25]]
    assert score(out.clone(), target, None).tolist() == [[-5], [-1]]


def test_operators_come_in_execution_order_and_records_hold_all_batches() -> None:
    net = explicit(two_block_models()["Swin"], BITS)

    class Halves(RandomImages):
        def batches(self):  # type: ignore[no-untyped-def]
            yield from next(super().batches()).split(4)

    found = operators(net, Halves())
    names = list(found)
    assert names[:4] == [
        "patch_embed.proj",
        "layers.0.blocks.0.attn.qkv",
        "layers.0.blocks.0.attn.qk",
        "layers.0.blocks.0.attn.av",
    ]
    assert names[-1] == "head.fc"
    for name in ("layers.0.blocks.0.attn.av", "head.fc"):
        whole, halves = record(net, RandomImages(), found[name]), record(net, Halves(), found[name])
        torch.testing.assert_close(whole.output, halves.output)
        torch.testing.assert_close(run(found[name], whole.first, whole.second), whole.output)


def test_joint_query_key_value_rows_have_three_scales() -> None:
    net = explicit(two_block_models()["ViT"], BITS)
    layer: Any = net.model.get_submodule("blocks.0.attn.qkv")
    group = grouping(net, "blocks.0.attn.qkv", layer, "first", layer.weight)
    assert group.starts(layer.weight, 4).shape == (3,)
    assert group.groups is not None and group.groups.bincount().tolist() == [32, 32, 32]
