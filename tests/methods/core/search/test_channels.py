"""Races of weight candidates per output channel: the winner of everything computed, with less computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Conv2d, Linear
from vitptq.methods.core.search.channels import ChannelRace
from vitptq.methods.core.search.objective import POSITIONS, Cosine, SquaredError
from vitptq.methods.core.search.recording import Trace, in_rows
from vitptq.methods.core.search.side_search import MEGABYTE, Grouping, multiples, search

BITS = BitSpec(4, 4)
COUNT = 40
GROUP = Grouping(0, torch.arange(12), "channel")
APART = SquaredError(GROUP.groups)


@pytest.fixture
def trace() -> Trace:
    """Return a 3x3 convolution on a quantised input, with gradients that are large at few positions."""
    torch.manual_seed(3)
    layer = Conv2d(nn.Conv2d(8, 12, 3, padding=1), BITS).requires_grad_(False)
    x = torch.randn(6, 8, 7, 5)
    output = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
    gradient = torch.randn_like(output) * torch.rand_like(output[:, :1]).pow(6)
    return Trace(layer, layer.weight, x + 0.05 * torch.randn_like(x), output, gradient)


def scales_of(weight: Tensor) -> Tensor:
    return multiples(GROUP.starts(weight, 4), 0.05, 1.2, COUNT)


def loop(trace: Trace) -> Tensor:
    """Return the losses (candidates, channels) by definition, in float64."""
    found = []
    for row in scales_of(trace.first):
        weight, x = GROUP.quantizer(row, 4)(trace.first).double(), trace.second.double()
        assert isinstance(trace.operator, Conv2d) and trace.operator.bias is not None
        error = nn.functional.conv2d(x, weight, trace.operator.bias.double(), padding=1) - trace.output
        if trace.gradient is not None:
            error = error * trace.gradient
        found.append(error.square().sum((0, 2, 3)))
    return torch.stack(found)


@pytest.mark.parametrize("guesses", [0, 1, 12])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("step", "memory"), [(1, MEGABYTE), (500, 100_000), (2**20, MEGABYTE)])
def test_each_channel_gets_the_winner_of_a_loop(
    trace: Trace, step: int, memory: int, weighted: bool, guesses: int
) -> None:
    trace = trace if weighted else replace(trace, gradient=None)
    candidates = GROUP.candidates(scales_of(trace.first), 4)
    guess = torch.randint(0, COUNT, (guesses,)) if guesses else None
    best = ChannelRace.of(trace).best(candidates, COUNT, step, memory, guess)
    losses = loop(trace)
    assert torch.equal(best.place, losses.argmin(0))
    assert len(best.place.unique()) > 3  # channels do not agree
    torch.testing.assert_close(best.loss, losses.amin(0), rtol=1e-4, atol=1e-9)


def test_search_takes_it_for_a_convolution_whose_quadratic_form_does_not_pay(trace: Trace) -> None:
    candidates = GROUP.candidates(scales_of(trace.first), 4)
    assert ChannelRace.suits(trace, APART, MEGABYTE)
    assert not ChannelRace.suits(trace, APART, 50_000)  # the unfolded input is too large
    for memory in (50_000, MEGABYTE):
        best = search(trace, "first", trace.second, COUNT, candidates, APART, memory)
        assert torch.equal(best.place, loop(trace).argmin(0))


def test_it_is_for_channels_that_are_judged_apart_and_share_their_inputs(trace: Trace) -> None:
    assert not ChannelRace.suits(trace, SquaredError(), MEGABYTE)
    assert not ChannelRace.suits(trace, SquaredError(torch.arange(12) // 4), MEGABYTE)
    assert not ChannelRace.suits(trace, Cosine(axes=POSITIONS), MEGABYTE)
    depthwise = Conv2d(nn.Conv2d(12, 12, 3, groups=12), BITS).requires_grad_(False)
    assert not ChannelRace.suits(replace(trace, operator=depthwise, first=depthwise.weight), APART, MEGABYTE)
    linear = Linear(nn.Linear(8, 12), BITS).requires_grad_(False)
    rows = in_rows(Trace(linear, linear.weight, torch.randn(5, 8), torch.randn(5, 12)))
    assert ChannelRace.suits(rows, APART, MEGABYTE)


ASKED: list[int] = []


@dataclass(frozen=True)
class Counting(ChannelRace):
    """Counts the errors that are asked for."""

    def _errors(self, change: Tensor, channels: Tensor, positions: slice) -> Tensor:
        found = super()._errors(change, channels, positions)
        ASKED.append(found.numel())
        return found


def test_channels_give_up_their_losers_early(trace: Trace) -> None:
    ASKED.clear()
    race = ChannelRace.of(trace)
    counting = Counting(race.weight, race.x, race.rest, race.gradient)
    counting.best(GROUP.candidates(scales_of(trace.first), 4), COUNT, 2**20, MEGABYTE)
    assert sum(ASKED) < 0.4 * COUNT * race.rest.numel()


def test_a_candidate_that_is_no_number_never_wins(trace: Trace) -> None:
    scales = scales_of(trace.first)
    scales[COUNT // 2] = torch.nan  # which runs first
    best = ChannelRace.of(trace).best(GROUP.candidates(scales, 4), COUNT, 2**20, MEGABYTE)
    losses = loop(trace)
    losses[COUNT // 2] = torch.inf
    assert torch.equal(best.place, losses.argmin(0))
