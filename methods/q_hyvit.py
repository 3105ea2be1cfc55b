"""Q-HyViT: scale, granularity and scheme searched together; bridge blocks judged as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method, run_time
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.families import Bridge
from vitptq.methods.core.model.operands import Conv2d, MatMul, Operand
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.integer import integer_norms, integer_softmaxes
from vitptq.methods.core.search.bridge import BlockContest, BridgeRun
from vitptq.methods.core.search.elimination import Best, race
from vitptq.methods.core.search.objective import SquaredError
from vitptq.methods.core.search.recording import (
    SIDES,
    Operator,
    Rows,
    Side,
    Trace,
    in_batches,
    on_first_batch,
    operators,
    record_all,
    sides,
)
from vitptq.methods.core.search.scale_grids import Grid, asymmetric_grid, symmetric_grid
from vitptq.methods.core.search.side_search import MEGABYTE, Grouping, grouping, search, step_size
from vitptq.methods.core.sensitivity.fisher import normalised, output_gradients

FULL_MODE_BITS = 8
"""Width of what enters and leaves a LayerNorm in full mode."""


@dataclass(eq=False)
class Turn:
    """One slot whose quantizer is searched while the others are fixed."""

    name: str
    operator: Operator
    side: Side
    x: Tensor
    """What the slot reads in the float model."""
    grids: Sequence[Grid]
    """The default first; none where the quantizer is fixed."""
    quantizer: Quantizer
    place: tuple[int, Tensor] | None = None
    """Index of the chosen grid, and of the factors of its groups."""
    met: list[Quantizer] = field(default_factory=list)
    """The other slots' quantizers at the last search."""


Judge = Callable[[Turn, Grid, Tensor], Best]
"""(slot, grid, places that are likely to win) to the best factors of that grid, with the others as they are."""


@dataclass(frozen=True)
class QHyViT(Method):
    """For each input the best of {layer, channel} x {symmetric, asymmetric} x 100 scales, by weighted output error.

    Weights are searched by scale only. The error is weighted with squared gradients of the divergence of the
    predictions, taken with every operand at its min-max scale. Layers of a bridge block, where local features become
    tokens, are scored by the error at the block's output, with the other members quantised as they are by then.
    """

    name = "q-hyvit"
    title = "Q-HyViT"
    fidelity = "inferred"
    inferred = (
        "written from descriptions of paper and code; not compared with the official code",
        "ranges are extended to hold 0, which keeps one-sided channels from overflowing the zero point",
        "channels share one multiple of their own min-max scales, except in depthwise convolutions, whose channels are "
        "independent; so does the weight of a bridge block's first layer",
        "attention products have one scale per head and no channel-wise grid",
        "factor 1, the min-max scale, is a candidate too, so that no choice is worse than it",
        "the gradient's default grid is per layer and symmetric",
        "operators outside bridge blocks are calibrated in parallel, on float inputs",
        'the error on the residual path that leaves a bridge block is scored only with bridge_score="block+own"',
        'mode="full" is this project\'s reading: LayerNorm on 8-bit integers with power-of-two factors and a 4-bit '
        "log2 softmax, as in FQ-ViT; group normalisations stay in float",
    )
    paper = "Lee et al., Q-HyViT, 2023, arXiv 2303.12557"

    alpha: float = 0.01
    beta: float = 1.2
    candidates: int = 100
    rounds: int = 3
    granularity: Literal["search", "layer", "rule"] = "search"
    """"rule" is the released code's: a grid per channel for inputs of grouped convolutions, per layer elsewhere."""
    scheme: Literal["search", "symmetric"] = "search"
    bridges: bool = True
    """Score the layers of a bridge block at its output instead of at their own."""
    bridge_score: Literal["block", "block+own"] = "block"
    """"block+own" adds the error at the layer's own output, each divided by its value at the min-max scales."""
    gradient_point: Literal["all", "bridge"] = "all"
    """"bridge" is the released code's: gradients are taken with only the layers of bridge blocks quantised."""
    mode: Literal["partial", "full"] = "partial"
    """"full" puts LayerNorm and softmax on integers as well."""
    memory_mb: int = run_time(256)
    """What the candidates of one step may take; more makes the search faster, not different."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the grids of least weighted error."""
        net = prepare(model, bits)
        found = operators(net, calibration)
        self._defaults(net, calibration, found)
        fixed: dict[Operand, Quantizer] = {}
        if self.mode == "full":
            fixed.update(integer_softmaxes(net, calibration))
        bridges = net.bridges() if self.bridges else []
        members = {name for bridge in bridges for name in bridge.members}
        at = self._gradient_net(net)
        chosen: dict[Operand, Quantizer] = {}
        for bridge in bridges:
            chosen |= self._search_bridge(net, at, calibration, bridge)
        others = {name: operator for name, operator in found.items() if name not in members}
        for names in in_batches(net, calibration, others, self.memory_mb * MEGABYTE):
            some = [found[name] for name in names]
            gradients = output_gradients(at, calibration, some, "quantised")
            for name, trace, gradient in zip(names, record_all(net, calibration, some), gradients, strict=True):
                chosen |= self._search(net, name, replace(trace, gradient=normalised(gradient)), fixed)
        for operand, quantizer in chosen.items():
            operand.quantizer = quantizer
        if self.mode == "full":
            integer_norms(net, calibration, FULL_MODE_BITS)
        return net.switch(True)

    def _defaults(self, net: PreparedModel, calibration: Calibration, found: dict[str, Operator]) -> None:
        """Set every operand to its default grid on the first batch: the point at which gradients are taken."""

        def default(name: str, operator: Operator, side: Side, x: Tensor) -> Quantizer:
            return self._grids(net, name, operator, side, x)[0].quantizer(torch.ones((), device=x.device))

        on_first_batch(net, calibration, found, default)

    def _gradient_net(self, net: PreparedModel) -> PreparedModel:
        """Return the model with only those operands that quantise where gradients are taken."""
        if self.gradient_point == "all":
            return net
        inside = tuple(f"{name}." for bridge in net.bridges() for name in bridge.members)
        return replace(net, operands={name: slot for name, slot in net.operands.items() if name.startswith(inside)})

    def _factors(self, device: torch.device) -> Tensor:
        """Return the multiples of D0 that are tried; beta itself is never reached, as in the parent code."""
        steps = torch.arange(self.candidates, device=device)
        return torch.cat([self.alpha + steps * ((self.beta - self.alpha) / self.candidates), steps.new_ones(1)])

    def _grids(self, net: PreparedModel, name: str, operator: Operator, side: Side, x: Tensor) -> list[Grid]:
        """Return the grids of one side, the default first."""
        slot = sides(operator)[SIDES.index(side)]
        default = grouping(net, name, operator, side, x)
        if slot.role == "weight":
            return [symmetric_grid(default, x, slot.bits)]
        groupings = [default]
        if not isinstance(operator, MatMul):
            channels = Grouping(slot.channel_axis, torch.arange(x.shape[slot.channel_axis], device=x.device), "channel")
            grouped = isinstance(operator, Conv2d) and operator.groups > 1
            if self.granularity == "search":
                groupings.append(channels)
            elif self.granularity == "rule" and grouped:
                groupings = [channels]
        grids = [symmetric_grid(group, x, slot.bits) for group in groupings]
        if self.scheme == "search":
            grids += [asymmetric_grid(group, x, slot.bits) for group in groupings]
        return grids

    def _turns(self, net: PreparedModel, name: str, operator: Operator, first: Tensor, second: Tensor) -> list[Turn]:
        """Return both sides of an operator, at their default grids."""
        turns = []
        for side, x in zip(SIDES, (first, second), strict=True):
            grids = self._grids(net, name, operator, side, x)
            turns.append(Turn(name, operator, side, x, grids, grids[0].quantizer(torch.ones((), device=x.device))))
        return turns

    @torch.no_grad()
    def _search(
        self, net: PreparedModel, name: str, trace: Trace, fixed: dict[Operand, Quantizer]
    ) -> dict[Operand, Quantizer]:
        """Return the quantizers of an operator's slots, searched in turn at its own output."""
        operator = trace.operator
        assert not isinstance(operator, Rows)
        turns = self._turns(net, name, operator, trace.first, trace.second)
        for turn, slot in zip(turns, sides(operator), strict=True):
            if slot in fixed:
                turn.grids, turn.quantizer = (), fixed[slot]

        def judge(turn: Turn, grid: Grid, guess: Tensor) -> Best:
            (other,) = (each for each in turns if each is not turn)
            return self._at_own_output(net, trace, turn, other.quantizer(other.x), grid, guess)

        self._settle(net, turns, judge)
        return dict(zip(sides(operator), (turn.quantizer for turn in turns), strict=True))

    def _at_own_output(
        self, net: PreparedModel, trace: Trace, turn: Turn, other: Tensor, grid: Grid, guess: Tensor
    ) -> Best:
        """Return the best factors of a grid by the error at the operator's own output."""
        factors = self._factors(trace.output.device)
        outputs, _ = judged(net, turn, grid)
        objective = SquaredError(outputs, by_head=grid.granularity == "head")
        memory = self.memory_mb * MEGABYTE
        return search(trace, turn.side, other, len(factors), grid.candidates(factors), objective, memory, guess)

    def _settle(self, net: PreparedModel, turns: Sequence[Turn], judge: Judge, whole: Operator | None = None) -> None:
        """Search the slots in turn, in rounds; one whose surroundings are as at its last search stays as it is.

        The slots of the operator `whole` have one factor for all groups of a grid.
        """
        for _ in range(self.rounds):
            for turn in turns:
                around = [other.quantizer for other in turns if other is not turn]
                same = len(around) == len(turn.met) and all(a is b for a, b in zip(around, turn.met, strict=True))
                if not turn.grids or same:
                    continue
                turn.met = around
                self._take(net, turn, judge, turn.operator is whole)

    def _take(self, net: PreparedModel, turn: Turn, judge: Judge, whole: bool) -> None:
        """Give a slot the best of its grids."""
        factors = self._factors(turn.x.device)
        best: tuple[Tensor, int, Tensor] | None = None
        for number, grid in enumerate(turn.grids):
            known = turn.place is not None and turn.place[0] == number
            guess = turn.place[1] if turn.place is not None and known else torch.tensor([len(factors) - 1])
            found = judge(turn, grid, guess.to(factors.device))
            loss = found.loss.sum()
            if best is None or loss < best[0]:
                best = loss, number, found.place
        assert best is not None
        _, number, place = best
        if turn.place is not None and turn.place[0] == number and torch.equal(turn.place[1], place):
            return
        groups = None if whole else judged(net, turn, turn.grids[number])[1]
        turn.place = number, place
        turn.quantizer = turn.grids[number].quantizer(factors[place] if groups is None else factors[place][groups])

    @torch.no_grad()
    def _search_bridge(
        self, net: PreparedModel, at: PreparedModel, calibration: Calibration, bridge: Bridge
    ) -> dict[Operand, Quantizer]:
        """Return the quantizers of a bridge block's slots, by the error at the block's output.

        What the last layers change is seen at their own outputs, so they are searched there, on what then enters them.
        """
        found = operators(net, calibration)
        places = [*bridge.outputs, bridge.members[0]]
        *gradients, own = output_gradients(at, calibration, [found[name] for name in places], "quantised")
        run = BridgeRun(net, calibration, bridge, gradients)
        turns: list[Turn] = []
        for name in bridge.members:
            operator = found[name]
            x = run.x if operator is run.first else run.into(operator, {})
            assert not isinstance(operator, MatMul)
            turns += self._turns(net, name, operator, operator.weight.detach(), x)

        own = torch.ones_like(own) if normalised(own) is None else own / own.abs().amax()
        first, second, *_ = turns
        others = [turn for turn in turns if turn.operator is not run.first]
        scales = self._scales(run, turns, own)

        def judge(turn: Turn, grid: Grid, guess: Tensor) -> Best:
            if turn.operator is not run.first:
                return self._at_an_end(net, run, turns, turn, grid, guess)
            factors = self._factors(turn.x.device)
            fixed = second.quantizer(second.x) if turn is first else first.quantizer(first.x)
            quantizers = {slot_of(other): other.quantizer for other in others}
            weights = own if self.bridge_score == "block+own" else None
            order = torch.arange(run.images, device=turn.x.device)
            contest = BlockContest(run, turn.side, fixed, grid.candidates(factors), quantizers, weights, scales, order)
            return race(contest, len(factors), step_size(self.memory_mb * MEGABYTE), guess)

        self._settle(net, turns, judge, whole=run.first)
        return {slot_of(turn): turn.quantizer for turn in turns}

    def _at_an_end(
        self, net: PreparedModel, run: BridgeRun, turns: Sequence[Turn], turn: Turn, grid: Grid, guess: Tensor
    ) -> Best:
        """Return the best factors for a slot of one of the block's last layers."""
        before = {slot_of(other): other.quantizer for other in turns if other.operator is run.first}
        end = run.ends.index(turn.operator)
        x = run.into(turn.operator, before)
        weight = next(other for other in turns if other.operator is turn.operator and other.side == "first")
        trace = Trace(turn.operator, weight.x, x, run.targets[end], run.gradients[end])
        other = next(each for each in turns if each.operator is turn.operator and each is not turn)
        fixed = other.quantizer(x) if turn.side == "first" else other.quantizer(weight.x)
        return self._at_own_output(net, trace, turn, fixed, grid, guess)

    def _scales(self, run: BridgeRun, turns: Sequence[Turn], own: Tensor) -> tuple[float, float]:
        """Return the errors at the block's outputs and at the first member's own with all members at their default."""
        if self.bridge_score == "block":
            return 1.0, 1.0
        first, second, *others = turns
        grid, one = first.grids[0], torch.ones(1, device=first.x.device)
        quantizers = {slot_of(turn): turn.quantizer for turn in others}
        order = torch.arange(run.images, device=first.x.device)
        contest = BlockContest(
            run, "first", second.quantizer(second.x), grid.candidates(one), quantizers, None, (1.0, 1.0), order
        )
        place, rows = torch.zeros(1, dtype=torch.long, device=first.x.device), slice(0, run.images)
        block = contest.losses(place, rows).sum().item()
        both = replace(contest, own=own).losses(place, rows).sum().item()
        return block or 1.0, (both - block) or 1.0


def slot_of(turn: Turn) -> Operand:
    """Return the slot whose turn it is."""
    return sides(turn.operator)[SIDES.index(turn.side)]


def judged(net: PreparedModel, turn: Turn, grid: Grid) -> tuple[Tensor | None, Tensor | None]:
    """Return which output channels are judged together, and the group of each index of the grid's axis."""
    operator = turn.operator
    if turn.side == "first" and not isinstance(operator, MatMul):
        rows = grouping(net, turn.name, operator, turn.side, turn.x).groups
        return rows, rows
    if isinstance(operator, Conv2d) and operator.groups == operator.in_channels and grid.granularity == "channel":
        multiplier = operator.out_channels // operator.groups
        channels = torch.arange(operator.groups, device=turn.x.device)
        return channels.repeat_interleave(multiplier), channels
    return None, None
