"""Scale searches at the output of an operator: candidates for one side of a product, judged against the float output.

Of a weight, the errors of all candidates are quadratic forms where that is cheaper (`quadratic`); everything else is
computed many candidates at a time, and not to the end for candidates that cannot win any more (`race`; where output
channels are judged apart, each for itself: `channels`). The winner is always that of a plain loop, and the tensors of
one step stay within a stated memory budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitptq.methods.core.model.operands import Convolution, MatMul
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, Granularity, Uniform
from vitptq.methods.core.search.candidate_losses import Candidates, contest
from vitptq.methods.core.search.channels import ChannelRace
from vitptq.methods.core.search.elimination import STEP, Best, race
from vitptq.methods.core.search.gram import quadratic_form
from vitptq.methods.core.search.objective import CHANNELS, Cosine, Objective
from vitptq.methods.core.search.recording import Operator, Side, Trace, in_rows

MEGABYTE = 2**20
FLOAT = 4
COPIES = 4
"""Tensors of the size of a step's outputs that live at once: the outputs, and what the objective makes of them."""


def search(
    trace: Trace,
    side: Side,
    other: Tensor,
    count: int,
    candidates: Candidates,
    objective: Objective,
    memory: int,
    guess: Tensor | None = None,
) -> Best:
    """Return the best of `count` candidates of `side` per group of the objective; ties: the first.

    `other` is the other side as it is to be used; `guess` (groups,) names candidates that are likely to win. A step's
    tensors take about `memory` bytes at most.
    """
    trace = replace(trace, second=other) if side == "first" else replace(trace, first=other)
    if not isinstance(objective, Cosine) or objective.axes == CHANNELS:
        trace = in_rows(trace)
    if objective.weighted:
        trace = without_weightless(trace)
    step = step_size(memory)
    form = quadratic_form(trace, count, objective, memory) if side == "first" else None
    if form is not None:
        return form.best(candidates, count, step)
    if side == "first" and ChannelRace.suits(trace, objective, memory):
        return ChannelRace.of(trace).best(candidates, count, step, memory, guess)
    return race(contest(trace, side, candidates, objective), count, step, guess)


def step_size(memory: int) -> int:
    """Return how many values the largest tensor of a step may have."""
    return max(1, min(STEP, memory // (COPIES * FLOAT)))


def without_weightless(trace: Trace) -> Trace:
    """Return the trace without rows whose gradient is 0 throughout: behind the last attention, all but one token."""
    if trace.gradient is None:
        return trace
    keep = trace.gradient.flatten(1).any(1)
    if keep.all() or not keep.any():
        return trace
    return replace(
        trace,
        first=trace.first[keep] if isinstance(trace.operator, MatMul) else trace.first,
        second=trace.second[keep],
        output=trace.output[keep],
        gradient=trace.gradient[keep],
    )


@dataclass(frozen=True)
class Grouping:
    """Which values of one side share a scale: all, each head, each output channel, or the rows of q, k and v."""

    axis: int | None
    groups: Tensor | None
    """The group of each index along `axis`."""
    granularity: Granularity

    def starts(self, x: Tensor, bits: int) -> Tensor:
        """Return D0 = max|x| / (2^(b-1) - 0.5) per group, shape (groups,) (PTQ4ViT)."""
        if self.axis is None or self.groups is None:
            largest = x.abs().amax().reshape(1)
        else:
            each = x.abs().movedim(self.axis, 0).flatten(1).amax(1)
            largest = each.new_zeros(int(self.groups.max()) + 1).scatter_reduce(0, self.groups, each, "amax")
        return (largest / (2 ** (bits - 1) - 0.5)).clamp_min(SCALE_FLOOR)

    def quantizer(self, scale: Tensor, bits: int) -> Uniform:
        """Return the symmetric quantizer with one scale per group, spread over the indices of the axis."""
        spread = scale if self.groups is None else scale[self.groups]
        return Uniform(
            bits, spread, torch.zeros_like(spread), axis=self.axis, granularity=self.granularity, signed=True
        )

    def candidates(self, scales: Tensor, bits: int) -> Candidates:
        """Return x on the symmetric grid of each row of `scales` (K, groups)."""
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

        def quantised(x: Tensor, places: Tensor) -> Tensor:
            chosen = scales[places]
            shape = [1] * x.ndim
            if self.axis is not None and self.groups is not None:
                chosen, shape[self.axis] = chosen[:, self.groups], -1
            step = chosen.reshape(len(places), *shape)
            return (x * step.reciprocal()).round_().clamp_(low, high).mul_(step)

        return quantised


def grouping(net: PreparedModel, name: str, operator: Operator, side: Side, x: Tensor) -> Grouping:
    """Return PTQ4ViT's granularity: products per head, convolution weights per output channel, the rest per tensor.

    The rows of a joint query-key-value layer have three scales.
    """
    if isinstance(operator, MatMul):
        return Grouping(1, torch.arange(x.shape[1], device=x.device), "head")
    if side == "second":
        return Grouping(None, None, "tensor")
    if isinstance(operator, Convolution):
        return Grouping(0, torch.arange(len(x), device=x.device), "channel")
    rows = qkv_rows(net, name, len(x))
    return Grouping(None, None, "tensor") if rows is None else Grouping(0, rows.to(x.device), "channel")


def qkv_rows(net: PreparedModel, name: str, rows: int) -> Tensor | None:
    """Return which of query, key and value each row of a layer belongs to, None where it is not a joint layer."""
    parent_name, _, own = name.rpartition(".")
    if own != "qkv":
        return None
    parent = net.model.get_submodule(parent_name)
    told: Callable[[], Tensor] | None = getattr(parent, "qkv_groups", None)  # where they are not three blocks of rows
    return torch.arange(rows) // (rows // 3) if told is None else told()


def multiples(start: Tensor, alpha: float, beta: float, count: int) -> Tensor:
    """Return D_i = (alpha + i (beta - alpha) / count) D0 for i = 0 .. count - 1, (groups,) to (count, groups).

    As in PTQ4ViT's code, beta itself is never reached.
    """
    factors = alpha + torch.arange(count, device=start.device) * ((beta - alpha) / count)
    return factors[:, None] * start
