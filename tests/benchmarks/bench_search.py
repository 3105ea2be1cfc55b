"""Speed of scale searches against plain loops over the candidates; `python3 start.py benchmark -- -k search`.

Layers of the embedded models with 32 calibration images and the gradients that their methods weight errors with.
Results and targets: docs/performance.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache, partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Conv2d, Linear, MatMul
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.adaptive_log import on_grids
from vitptq.methods.core.ranges.estimation import least_error, uniform
from vitptq.methods.core.search.alternating import best_candidate
from vitptq.methods.core.search.candidates import Scales, default_grouping, multiples, symmetric
from vitptq.methods.core.search.fpcs import Error
from vitptq.methods.core.search.grid_errors import input_error, side_error
from vitptq.methods.core.search.grid_errors import uniform as uniform_kind
from vitptq.methods.core.search.objective import CHANNELS, POSITIONS, Cosine, Objective, SquaredError
from vitptq.methods.core.search.operator_outputs import canonical
from vitptq.methods.core.search.recording import (
    MEGABYTE,
    Inputs,
    Recording,
    Rows,
    Side,
    record,
    recorded_inputs,
    set_on_first_batch,
    sides,
    survey,
)
from vitptq.methods.core.sensitivity.fisher import output_gradients

CPU = torch.device("cpu")
W4A4 = BitSpec(4, 4)
MODELS = ["mini_vit", "mini_swin", "mini_mobilevit", "mini_mobilevitv2", "mini_efficientformerv2"]
CANDIDATES = 100
MEMORY = 256 * MEGABYTE
LAYERS = {
    "mini_vit qkv": ("mini_vit", "blocks.1.attn.qkv"),
    "mini_vit fc1": ("mini_vit", "blocks.1.mlp.fc1"),
    "mini_vit fc2": ("mini_vit", "blocks.1.mlp.fc2"),
    "mini_mobilevit 1x1 convolution": ("mini_mobilevit", "stages.2.0.conv1_1x1.conv"),
    "mini_mobilevit 3x3 convolution": ("mini_mobilevit", "stages.3.1.conv_kxk.conv"),
    "mini_mobilevit depthwise convolution": ("mini_mobilevit", "stages.2.0.conv2_kxk.conv"),
}
PRODUCTS = {
    "mini_vit queries and keys": ("mini_vit", "blocks.1.attn.qk"),
    "mini_vit probabilities and values": ("mini_vit", "blocks.1.attn.av"),
}


def prepared(model: str) -> tuple[Any, Any]:
    """Return the explicit model and its calibration images."""
    task = registry.task("imagenet", "mini")
    task.prepare()
    return prepare(task.load(model, CPU), W4A4), task.calibration(model, 32, 0, CPU)


def candidates_of(net: Any, name: str, operator: Any, side: Side, x: Tensor) -> Scales:
    """Return the scales of one side of an operator."""
    bits = sides(operator)[0 if side == "first" else 1].bits
    return symmetric(default_grouping(net, name, operator, side, x), x, bits, multiples(0.01, 1.2, CANDIDATES))


@lru_cache(maxsize=8)
def recorded(model: str, name: str) -> tuple[Any, Recording]:
    """Return the prepared model, and what passes through one operator, with the gradient at its output."""
    net, calibration = prepared(model)
    operator = net.model.get_submodule(name)
    set_on_first_batch(net, calibration, lambda *side: candidates_of(net, *side).default())
    (gradient,) = output_gradients(net, calibration, [operator], "quantised")
    ((recording,),) = record(net, calibration, [operator], [[gradient]])
    return net, recording


class Question:
    """One side of one operator, to be searched with the other side at its min-max scale."""

    def __init__(self, where: tuple[str, str], side: Side, error: str) -> None:
        net, self.recording = recorded(*where)
        operator = self.recording.operator
        assert not isinstance(operator, Rows)
        self.side = side
        other: Side = "second" if side == "first" else "first"
        x, y = getattr(self.recording, side), getattr(self.recording, other)
        self.candidates = candidates_of(net, where[1], operator, side, x)
        self.grid = candidates_of(net, where[1], operator, other, y).default()
        self.other = self.grid(y)
        if error == "plain":
            self.recording = replace(self.recording, gradient=None)
        rows, by_head = self.candidates.judged, self.candidates.by_head
        self.objective: Objective = SquaredError(rows, by_head)
        if error == "cosine":
            apart = isinstance(operator, Conv2d) and side == "first"
            self.objective = Cosine(axes=POSITIONS) if apart else Cosine(rows, by_head, CHANNELS)

    @torch.no_grad()
    def search(self) -> Tensor:
        """Answer by the library's search."""
        best = best_candidate(
            [self.recording], self.side, [self.other], self.candidates, self.objective, MEMORY, grid=self.grid
        )
        return best.place

    @torch.no_grad()
    def loop(self) -> Tensor:
        """Answer by one candidate after the other, each with its own quantizer and product over all positions."""
        operator, x = self.recording.operator, getattr(self.recording, self.side)
        target = canonical(operator, self.recording.output, 1)
        gradient = None if self.recording.gradient is None else canonical(operator, self.recording.gradient, 1)
        losses = []
        for place in range(CANDIDATES):
            rounded = self.candidates.quantizer(torch.tensor([place]))(x)
            out = self.product(rounded, self.other) if self.side == "first" else self.product(self.other, rounded)
            error = canonical(operator, out, 1) - target
            losses.append(self.objective.losses(error[None], target, gradient).sum(1))
        return torch.cat(losses).argmin(0)

    def product(self, first: Tensor, second: Tensor) -> Tensor:
        """Run the operator itself on given sides."""
        operator: Any = self.recording.operator
        if isinstance(operator, MatMul):
            return first @ (second.transpose(-2, -1) if operator.transpose else second)
        if isinstance(operator, Conv2d):
            return operator._conv_forward(second, first, operator.bias)
        return nn.functional.linear(second, first, operator.bias)

    @torch.no_grad()
    def products(self) -> None:
        """Run what a search by output error cannot do without: one product per candidate, and nothing else."""
        x = getattr(self.recording, self.side)
        for _ in range(CANDIDATES):
            self.product(x, self.other) if self.side == "first" else self.product(self.other, x)


def answer(benchmark: Any, question: Question, way: str) -> None:
    """Time one way, after checking that both find the same."""
    if way == "search":
        assert (question.search() == question.loop()).float().mean() > 0.95  # the rest: equal up to rounding
    benchmark.pedantic(getattr(question, way), rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("way", ["search", "loop"])
@pytest.mark.parametrize("error", ["weighted", "plain", "cosine"])
@pytest.mark.parametrize("layer", LAYERS)
def bench_search_of_weights(benchmark: Any, layer: str, error: str, way: str) -> None:
    """100 scales of a weight: the search must take at most a fifth of the loop."""
    benchmark.group = f"weights, {error} error, {layer}"
    answer(benchmark, Question(LAYERS[layer], "first", error), way)


@pytest.mark.parametrize("model", MODELS)
def bench_search_of_all_weights(benchmark: Any, model: str) -> None:
    """100 scales of every weight of a model: the search must take at most a fifth of the loop.

    `extra_info` has the processor time of search, loop and products alone, in milliseconds, added up over the layers.
    """
    benchmark.group = f"every weight of {model}"
    seconds: dict[str, float] = {}

    def every() -> None:
        for name, error in product(layers(model), ["weighted", "plain", "cosine"]):
            question = Question((model, name), "first", error)
            question.search()  # the first run pays for memory
            for way in ("search", "loop", "products"):
                key = f"{error} {way}"
                seconds[key] = seconds.get(key, 0.0) + processor_time(getattr(question, way))

    benchmark.pedantic(every, rounds=1)
    benchmark.extra_info |= {key: round(1000 * value) for key, value in seconds.items()}


def layers(model: str) -> list[str]:
    """Return the names of the layers and convolutions of a model that run."""
    return [name for name, use in survey(*prepared(model)).items() if not isinstance(use.operator, MatMul)]


def processor_time(run: Callable[[], object]) -> float:
    """Return the seconds of processor time that a call takes: other processes disturb them less."""
    started = time.process_time()
    run()
    return time.process_time() - started


@pytest.mark.parametrize("way", ["search", "loop", "products"])
@pytest.mark.parametrize("error", ["weighted", "cosine"])
@pytest.mark.parametrize("layer", [*LAYERS, *PRODUCTS])
def bench_search_of_inputs(benchmark: Any, layer: str, error: str, way: str) -> None:
    """100 scales of an input: at most 2 / 3 of the loop, and 1.5 times the products alone."""
    benchmark.group = f"inputs, {error} error, {layer}"
    answer(benchmark, Question((LAYERS | PRODUCTS)[layer], "second", error), way)


@pytest.mark.parametrize("way", ["search", "a float pass", "a pass per candidate"])
@pytest.mark.parametrize("model", ["mini_vit", "mini_swin", "mini_mobilevit"])
def bench_search_by_the_tensors_own_error(benchmark: Any, model: str, way: str) -> None:
    """100 ranges of every activation of a model: at most 3 float passes over the 32 images."""
    benchmark.group = f"own error, every activation of {model}"
    task = registry.task("imagenet", "mini")
    task.prepare()
    calibration = task.calibration(model, 32, 0, CPU)
    float_model = task.load(model, CPU)
    images = torch.cat(list(calibration.batches()))
    tensors = activations(model)
    factors = torch.linspace(1, 0.01, CANDIDATES)

    @torch.no_grad()
    def once() -> None:
        if way == "a float pass":
            float_model(images)
            return
        for x in tensors:
            lows, highs = x.amin(1)[:, None] * factors, x.amax(1)[:, None] * factors
            least_error(x, lows, highs, 4) if way == "search" else plain(x, lows, highs)

    benchmark.pedantic(once, rounds=3, warmup_rounds=1)


@cache
def activations(model: str) -> list[Tensor]:
    """Return what enters every activation slot, each as one row."""
    net, calibration = prepared(model)
    seen: list[Tensor] = []
    for operand in net.activations.values():
        operand.watcher = lambda operand, x: seen.append(x.reshape(1, -1))
    net.run(calibration)
    return seen


def plain(x: Tensor, lows: Tensor, highs: Tensor) -> int:
    """Return the best range by a pass over the values per candidate."""
    pairs = zip(lows[0], highs[0], strict=True)
    errors = [(uniform(low[None], high[None], 4)(x) - x).square().mean() for low, high in pairs]
    return int(torch.stack(errors).argmin())


@pytest.mark.parametrize("side", ["left", "right", "input", "input on logarithms"])
@pytest.mark.parametrize("model", ["mini_vit", "mini_swin"])
def bench_search_of_grids(benchmark: Any, model: str, side: str) -> None:
    """100 grids of every input of a linear layer, or of every side of an attention product: at most 1.5 x the products.

    As AdaLog and APHQ-ViT search them. `extra_info` has the processor time of search and products, in milliseconds.
    """
    benchmark.group = f"grids, {side}, {model}"
    net, calibration = prepared(model)
    wanted = Linear if side.startswith("input") else MatMul
    found = [(op, inputs) for _, op, inputs in recorded_inputs(net, calibration) if isinstance(op, wanted)]
    seconds = {"search": 0.0, "products": 0.0}

    @torch.no_grad()
    def every() -> None:
        for operator, inputs in found:
            error, groups, multiply = grids_of(operator, inputs, side)
            scale, zero = torch.linspace(0.1, 0.5, CANDIDATES).expand(groups, -1), torch.full((groups, CANDIDATES), 7.0)
            error(scale, zero)  # the first run pays for memory
            seconds["search"] += processor_time(lambda error=error, s=scale, z=zero: error(s, z))
            seconds["products"] += processor_time(lambda multiply=multiply: [multiply() for _ in range(CANDIDATES)])

    benchmark.pedantic(every, rounds=1)
    benchmark.extra_info |= {key: round(1000 * value) for key, value in seconds.items()}


def grids_of(operator: Any, inputs: Inputs, side: str) -> tuple[Error, int, Callable[[], object]]:
    """Return the error of one side's grids, its groups, and one product, the smaller one where there are two forms."""
    if isinstance(operator, MatMul):
        pairs = list(zip(inputs.first, inputs.second, strict=True))
        heads = inputs.first[0].shape[1]
        return side_error(operator, inputs, left=side == "left"), heads, lambda: [operator(*pair) for pair in pairs]
    (rows,) = inputs.second
    weight = operator.weight.detach()
    matrix = weight.T @ weight if len(weight) > weight.shape[1] else weight.T
    kind = partial(on_grids, bits=4, shift=0.0) if "log" in side else uniform_kind(4)
    return input_error(operator, rows, kind), 1, lambda: rows @ matrix
