"""Searches over scales: many candidates at a time against a plain loop, for every kind of operator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Conv2d, Convolution, ConvTranspose2d, Linear, MatMul
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.search import gram, recording
from vitptq.methods.core.search.candidate_losses import QuadraticInput, contest
from vitptq.methods.core.search.elimination import STEP
from vitptq.methods.core.search.gram import expanded, quadratic_form
from vitptq.methods.core.search.objective import (
    ALL_POSITIONS,
    CHANNELS,
    POSITIONS,
    Cosine,
    Objective,
    SquaredError,
    cosine_distance,
    group_sums,
)
from vitptq.methods.core.search.recording import (
    Operator,
    Rows,
    Side,
    Trace,
    in_batches,
    in_rows,
    operators,
    outputs,
    record,
    record_all,
)
from vitptq.methods.core.search.side_search import MEGABYTE, Grouping, grouping, multiples, search

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


OBJECTIVES: dict[str, Any] = {
    "weighted error": lambda groups, by_head: SquaredError(groups, by_head),
    "token cosine": lambda groups, by_head: Cosine(groups, by_head, CHANNELS),
    "whole cosine": lambda groups, by_head: Cosine(groups, by_head, (-2, -1) if by_head else ALL_POSITIONS),
    "position cosine": lambda groups, by_head: Cosine(None, False, POSITIONS),
}


@pytest.mark.parametrize("memory", [6000, MEGABYTE])
@pytest.mark.parametrize("side", ["first", "second"])
@pytest.mark.parametrize("objective", ["weighted error", "plain error", *list(OBJECTIVES)[1:]])
def test_search_finds_what_a_float64_loop_finds_whatever_the_memory(
    trace: Trace, side: Side, memory: int, objective: str
) -> None:
    if objective == "plain error":
        trace, objective = replace(trace, gradient=None), "weighted error"
    operator, x = trace.operator, getattr(trace, side)
    assert not isinstance(operator, Rows)
    group = grouping(None, "layer", operator, side, x)  # type: ignore[arg-type]
    judged: Objective = OBJECTIVES[objective](group.groups if group.axis == 0 else None, group.granularity == "head")
    if objective == "position cosine" and not (side == "first" and isinstance(operator, Convolution)):
        pytest.skip("channels apart are compared for convolution weights only")
    if objective == "token cosine" and side == "first" and isinstance(operator, Convolution):
        pytest.skip("one channel of one position has no direction")
    scales = multiples(group.starts(x, 4), 0.3, 1.2, 11)
    other = trace.second if side == "first" else trace.first
    best = search(trace, side, other, 11, group.candidates(scales, 4), judged, memory)
    losses = loop_in_float64(trace, side, group, scales, judged)
    assert best.place.shape == losses[0].shape
    # equal up to rounding: then either may win
    torch.testing.assert_close(losses.gather(0, best.place[None])[0], losses.amin(0), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(best.loss.double(), losses.amin(0), rtol=2e-3, atol=1e-4)


def loop_in_float64(trace: Trace, side: Side, group: Grouping, scales: Tensor, objective: Objective) -> Tensor:
    """Return losses (candidates, groups), one candidate after the other, by definition."""
    operator: Any = trace.operator
    x, found = getattr(trace, side), []
    for row in scales:
        rounded = group.quantizer(row, 4)(x)
        first, second = (rounded, trace.second) if side == "first" else (trace.first, rounded)
        out, target = (y.double() for y in (exact(operator, first, second), trace.output))
        if not isinstance(operator, MatMul):
            axis = 1 if isinstance(operator, Convolution) else -1
            out, target = (
                y.movedim(axis, -1).reshape(len(trace.output), 1, -1, len(trace.first)) for y in (out, target)
            )  # (n, 1, T, C)
        groups = objective.groups
        if isinstance(objective, Cosine):
            similarity = by_cosine(objective, out, target)
            found.append(similarity)
            continue
        error = (out - target).square()
        if trace.gradient is not None:
            gradient = trace.gradient.double()
            if not isinstance(operator, MatMul):
                gradient = gradient.movedim(axis, -1).reshape(len(trace.output), 1, -1, len(trace.first))
            error = error * gradient.square()
        if objective.by_head:
            found.append(error.sum((0, 2, 3)))
        else:
            channels = error.sum((0, 1, 2))
            found.append(
                channels.sum()[None]
                if groups is None
                else torch.zeros(int(groups.max()) + 1).double().index_add(0, groups, channels)
            )
    return torch.stack(found)


def by_cosine(objective: Cosine, out: Tensor, target: Tensor) -> Tensor:
    count = 1 if objective.groups is None else int(objective.groups.max()) + 1
    groups = torch.zeros(out.shape[-1], dtype=torch.long) if objective.groups is None else objective.groups
    if objective.axes == POSITIONS:
        return (1 - nn.functional.cosine_similarity(out, target, dim=2)).sum((0, 1))
    found = []
    for number in range(count):
        pair = [y[..., groups == number] for y in (out, target)]
        if objective.axes == (-2, -1):
            pair = [y.flatten(2) for y in pair]
        elif objective.axes == ALL_POSITIONS:
            pair = [y.flatten(1) for y in pair]
        distance = 1 - nn.functional.cosine_similarity(*pair, dim=-1)
        found.append(
            distance.flatten(2).sum((0, 2))
            if objective.by_head and distance.ndim > 2
            else distance.sum(0)
            if objective.by_head
            else distance.sum()[None]
        )
    return torch.cat(found)


def exact(operator: Any, first: Tensor, second: Tensor) -> Tensor:
    """Run an operator by torch's own functions in float64."""
    first, second = first.double(), second.double()
    if isinstance(operator, MatMul):
        return first @ (second.transpose(-2, -1) if operator.transpose else second)
    bias = None if operator.bias is None else operator.bias.double()
    if isinstance(operator, Linear):
        return nn.functional.linear(second, first, bias)
    if isinstance(operator, ConvTranspose2d):
        return nn.functional.conv_transpose2d(second, first.transpose(0, 1), bias, operator.stride)
    return nn.functional.conv2d(
        second, first, bias, operator.stride, operator.padding, operator.dilation, operator.groups
    )


@pytest.mark.parametrize(("memory", "step"), [(1, 1), (MEGABYTE, 100), (MEGABYTE, STEP)])
@pytest.mark.parametrize("weighted", [True, False])
def test_quadratic_form_is_the_error_of_every_weight_candidate(
    trace: Trace, weighted: bool, memory: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(trace.operator, MatMul | ConvTranspose2d):
        pytest.skip("no form for it")
    monkeypatch.setattr(gram, "STEP", step)
    trace = trace if weighted else replace(trace, gradient=None)
    x = trace.first
    group = Grouping(0, torch.arange(len(x)), "channel")
    scales = multiples(group.starts(x, 4), 0.3, 1.2, 7)
    noisy = replace(trace, second=trace.second + 0.1 * torch.randn_like(trace.second))  # an input that was quantised
    form = expanded(in_rows(noisy), SquaredError(group.groups), memory)
    losses = form.losses(group.candidates(scales, 4), torch.arange(7))
    expected = loop_in_float64(noisy, "first", group, scales, SquaredError(group.groups))
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axes", [POSITIONS, ALL_POSITIONS])
def test_quadratic_form_is_the_cosine_of_every_weight_candidate(trace: Trace, axes: tuple[int, ...]) -> None:
    if isinstance(trace.operator, MatMul | ConvTranspose2d):
        pytest.skip("no form for it")
    group = Grouping(0, torch.arange(len(trace.first)), "channel")
    scales = multiples(group.starts(trace.first, 4), 0.3, 1.2, 7)
    objective = Cosine(axes=axes)
    form = expanded(trace, objective, 1)
    losses = form.losses(group.candidates(scales, 4), torch.arange(7))
    expected = loop_in_float64(trace, "first", group, scales, objective)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)


def test_input_candidates_of_a_wide_layer_are_judged_without_outputs() -> None:
    torch.manual_seed(0)
    layer = Linear(nn.Linear(5, 16), BITS).requires_grad_(False)
    x = torch.randn(40, 5)
    trace = in_rows(Trace(layer, layer.weight, x, layer(x) + 0.01 * torch.randn(40, 16)))
    group = Grouping(None, None, "tensor")
    scales = multiples(group.starts(x, 4), 0.5, 1.2, 9)
    for objective in (SquaredError(), Cosine(axes=CHANNELS)):
        field = contest(trace, "second", group.candidates(scales, 4), objective)
        assert isinstance(field, QuadraticInput)
        losses = field.losses(torch.arange(9), slice(0, 40)).sum(1)
        native = Trace(layer, layer.weight, x[:, None], trace.output[:, None])
        torch.testing.assert_close(
            losses.double(), loop_in_float64(native, "second", group, scales, objective), rtol=1e-3, atol=1e-6
        )
        torch.testing.assert_close(
            field.ordered(torch.arange(40).flip(0)).losses(torch.arange(9), slice(0, 40)).sum(1), losses
        )


def test_rows_without_gradient_cost_nothing_and_change_nothing() -> None:
    torch.manual_seed(0)
    layer = Linear(nn.Linear(6, 4), BITS).requires_grad_(False)
    x = torch.randn(8, 5, 6)
    gradient = torch.zeros(8, 5, 4)
    gradient[:, 0] = torch.randn(8, 4)
    trace = Trace(layer, layer.weight, x, layer(x), gradient)
    few = Trace(layer, layer.weight, x[:, 0], layer(x[:, 0]), gradient[:, 0])
    group = Grouping(None, None, "tensor")
    scales = multiples(group.starts(x, 4), 0.3, 1.2, 30)
    one, two = (
        search(t, "second", layer.weight, 30, group.candidates(scales, 4), SquaredError(), MEGABYTE)
        for t in (trace, few)
    )
    assert torch.equal(one.place, two.place)
    torch.testing.assert_close(one.loss, two.loss)


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
    error = torch.tensor([[3.0, 4.0], [0.0, 0.0]])[None, None, None] - target
    by_token = Cosine(axes=CHANNELS).losses(error.clone(), target, None)
    assert by_token.tolist() == [[[pytest.approx(0.4 + 1)]]]  # 1 - 3 / 5, and 1 for the token that vanished
    whole = Cosine(axes=ALL_POSITIONS).losses(error.clone(), target, None)
    assert whole.tolist() == [[[pytest.approx(1 - 3 / (5 * 5**0.5))]]]


def test_cosine_distance_of_nearly_equal_vectors_is_not_rounding() -> None:
    torch.manual_seed(0)
    target = torch.randn(200, 64, dtype=torch.float64)
    error = 1e-4 * torch.randn(200, 64, dtype=torch.float64)
    expected = 1 - nn.functional.cosine_similarity(target, target + error, dim=-1)
    parts = (error.square().sum(-1), (target * error).sum(-1), target.square().sum(-1))
    found = cosine_distance(*(part.float() for part in parts))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)


def test_cosine_of_one_token_is_the_same_by_token_and_whole() -> None:
    error, target = torch.randn(4, 3, 2, 1, 5), torch.randn(3, 2, 1, 5)
    by_token = Cosine(by_head=True, axes=CHANNELS).losses(error.clone(), target, None)
    assert by_token.shape == (4, 3, 2)
    torch.testing.assert_close(by_token, Cosine(by_head=True, axes=(-2, -1)).losses(error.clone(), target, None))


def test_weighted_error_by_hand() -> None:
    target, gradient = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[2.0, 0.5]]]])
    error = torch.tensor([[[[[2.0, 4.0]]]], [[[[1.0, 3.0]]]]]) - target
    assert SquaredError().losses(error.clone(), target, gradient).flatten().tolist() == [5, 0.25]
    assert SquaredError().losses(error.clone(), target, None).flatten().tolist() == [5, 1]
    apart = SquaredError(torch.tensor([0, 1])).losses(error.clone(), target, None)
    assert apart.tolist() == [[[1, 4]], [[0, 1]]]


def test_operators_come_in_execution_order_and_records_hold_all_batches() -> None:
    net = prepare(two_block_models()["Swin"], BITS)

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
    net = prepare(two_block_models()["ViT"], BITS)
    layer: Any = net.model.get_submodule("blocks.0.attn.qkv")
    group = grouping(net, "blocks.0.attn.qkv", layer, "first", layer.weight)
    assert group.starts(layer.weight, 4).shape == (3,)
    assert group.groups is not None and group.groups.bincount().tolist() == [32, 32, 32]


def test_many_operators_are_recorded_in_one_pass_and_groups_keep_to_the_memory() -> None:
    images = RandomImages()
    net = prepare(two_block_models()["ViT"], BITS)
    found = operators(net, images)
    groups = list(in_batches(net, images, found, 2**17))
    assert [name for names in groups for name in names] == list(found)
    assert 1 < len(groups) < len(found)
    images.reads = 0
    together = record_all(net, images, [found[name] for name in groups[0]])
    assert images.reads == 1
    for name, trace in zip(groups[0], together, strict=True):
        alone = record(net, images, found[name])
        assert torch.equal(alone.output, trace.output) and torch.equal(alone.second, trace.second)


def test_quadratic_form_is_used_where_it_pays() -> None:
    torch.manual_seed(0)
    layer = Linear(nn.Linear(16, 24), BITS).requires_grad_(False)
    trace = in_rows(Trace(layer, layer.weight, torch.randn(500, 16), torch.randn(500, 24), torch.rand(500, 24)))
    assert quadratic_form(trace, 100, SquaredError(), 100 * MEGABYTE) is not None
    assert quadratic_form(trace, 5, SquaredError(), 100 * MEGABYTE) is None  # five candidates are soon computed
    assert quadratic_form(trace, 100, SquaredError(), 1000) is None  # a matrix per channel does not fit
    assert quadratic_form(replace(trace, gradient=None), 100, SquaredError(), 20_000) is not None
    assert quadratic_form(trace, 100, Cosine(axes=CHANNELS), 100 * MEGABYTE) is None


def test_images_of_different_sizes_are_refused_in_one_sentence():
    with pytest.raises(Unsupported, match=r"differ in size .*\(4, 8\) and \(5, 8\)"):
        recording.joined([torch.zeros(2, 4, 8), torch.zeros(1, 5, 8)])
    assert recording.joined([torch.zeros(2, 4), torch.zeros(1, 4)]).shape == (3, 4)
