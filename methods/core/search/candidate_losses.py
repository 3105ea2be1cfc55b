"""Contests over the candidates of one side of an operator: each candidate's output computed and compared.

Two forms. `Direct` computes outputs. `QuadraticInput` never does: where all channels of a row are compared together,
|W (x^ - x) - r|^2 is a quadratic form in x^ - x, with a matrix that all rows and candidates share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.search.elimination import Contest
from vitptq.methods.core.search.objective import CHANNELS, Cosine, Objective, SquaredError, cosine_distance
from vitptq.methods.core.search.recording import Rows, Side, Trace, canonical, outputs

Candidates = Callable[[Tensor, Tensor], Tensor]
"""(x, places (k,)) to those quantised candidates of x, shape (k, *x.shape). `x` may come as `in_rows` gives it."""
ROWS_OF_A_WEIGHT = 64
"""Rows that make it worth while to quantise a weight once more, which takes as long as 30 to 50 of a linear layer's."""


def contest(trace: Trace, side: Side, candidates: Candidates, objective: Objective) -> Contest:
    """Return the contest of one side's candidates; the trace holds the other side as it is to be used."""
    if side == "second" and QuadraticInput.suits(trace, objective):
        return QuadraticInput.of(trace, candidates, objective)
    return Direct.of(trace, side, candidates, objective)


@dataclass(frozen=True)
class Direct:
    """Outputs computed and compared with the float output."""

    trace: Trace
    side: Side
    candidates: Candidates
    objective: Objective
    target: Tensor
    """(rows, H, T, C)"""
    gradient: Tensor | None
    rows: int
    groups: int
    size: int
    fewest: int

    @staticmethod
    def of(trace: Trace, side: Side, candidates: Candidates, objective: Objective) -> Direct:
        """Return the contest of one side's candidates."""
        operator = trace.operator
        target = canonical(operator, trace.output, 1)
        gradient = None
        if objective.weighted and trace.gradient is not None:
            gradient = canonical(operator, trace.gradient, 1)
        varied: Tensor = getattr(trace, side)
        weight = side == "first" and not isinstance(operator, MatMul)
        each = -(-varied.numel() // len(target)) if weight else varied[0].numel()
        heads, channels = (target.shape[1] if objective.by_head else 1), objective.count(target.shape[-1])
        assert heads == 1 or channels == 1, "heads and channels cannot both be groups"
        return Direct(
            trace=trace,
            side=side,
            candidates=candidates,
            objective=objective,
            target=target,
            gradient=gradient,
            rows=len(target),
            groups=heads * channels,
            size=target[0].numel() + each,
            fewest=-(-ROWS_OF_A_WEIGHT // target[0, ..., 0].numel()) if weight else 1,
        )

    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return losses (k, r, groups)."""
        operator, weight = self.trace.operator, not isinstance(self.trace.operator, MatMul)
        first, second = self.trace.first if weight else self.trace.first[rows], self.trace.second[rows]
        if self.side == "first":
            out = outputs(operator, self.candidates(first, places), second, "first")
        else:
            out = outputs(operator, first, self.candidates(second, places), "second")
        error = canonical(operator, out, 2).sub_(self.target[rows])
        gradient = None if self.gradient is None else self.gradient[rows]
        target = self.target[rows]
        return self.objective.losses(error, target, gradient)

    def ordered(self, order: Tensor) -> Direct:
        """Return the contest with its rows in another order."""
        trace, order = self.trace, order.to(self.target.device)
        first = trace.first[order] if isinstance(trace.operator, MatMul) else trace.first
        return replace(
            self,
            trace=replace(trace, first=first, second=trace.second[order]),
            target=self.target[order],
            gradient=None if self.gradient is None else self.gradient[order],
        )


@dataclass(frozen=True)
class QuadraticInput:
    """Candidates d = x^ - x of rows x, by |W d - r|^2 = |r|^2 - 2 (W^T r) d + d^T (W^T W) d with r = O - W x - b.

    The error is expanded around the unquantised input, so that nothing larger than the error cancels.
    """

    x: Tensor
    candidates: Candidates
    matrix: Tensor
    """W^T W, (in, in)"""
    pull: Tensor
    """2 r W, (R, in)"""
    rest: Tensor
    """|r|^2, (R,)"""
    along: tuple[Tensor, Tensor, Tensor] | None
    """O W (R, in), O . r and |O|^2 (R,), where the cosine is asked."""
    rows: int
    groups: int
    size: int
    fewest: int = 1

    @staticmethod
    def suits(trace: Trace, objective: Objective) -> bool:
        """Tell whether the form holds and costs less than outputs."""
        whole = objective.groups is None and (trace.gradient is None or not objective.weighted)
        compared = isinstance(objective, SquaredError) or (isinstance(objective, Cosine) and objective.axes == CHANNELS)
        narrow = trace.output.shape[-1] > trace.second.shape[-1]
        return isinstance(trace.operator, Rows) and whole and compared and narrow

    @staticmethod
    def of(trace: Trace, candidates: Candidates, objective: Objective) -> QuadraticInput:
        """Return the contest of the input's candidates."""
        assert isinstance(trace.operator, Rows)
        x, weight, target = trace.second, trace.first, trace.output
        rest = target - torch.nn.functional.linear(x, weight, trace.operator.bias)
        along = None
        if isinstance(objective, Cosine):
            along = (target @ weight, (target * rest).sum(1), target.square().sum(1))
        matrix, pull = weight.T @ weight, 2 * (rest @ weight)
        return QuadraticInput(x, candidates, matrix, pull, rest.square().sum(1), along, len(x), 1, 2 * x.shape[1])

    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return losses (k, r, 1)."""
        x = self.x[rows]
        d = self.candidates(x, places).sub_(x)  # (k, r, in)
        square = (d @ self.matrix).sub_(self.pull[rows]).mul_(d).sum(-1).add_(self.rest[rows]).clamp_min_(0)
        if self.along is None:
            return square.unsqueeze(-1)
        direction, rest, target = (part[rows] for part in self.along)
        along = d.mul_(direction).sum(-1).sub_(rest)  # O . (W d - r)
        return cosine_distance(square, along, target).unsqueeze(-1)

    def ordered(self, order: Tensor) -> QuadraticInput:
        """Return the contest with its rows in another order."""
        along = None
        if self.along is not None:
            direction, rest, target = (part[order] for part in self.along)
            along = (direction, rest, target)
        return replace(self, x=self.x[order], pull=self.pull[order], rest=self.rest[order], along=along)
