"""The losses of the candidates of one side of an operator: from the outputs that each leads to, or without them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.search.candidates import Candidates
from vitptq.methods.core.search.elimination import CandidateLosses
from vitptq.methods.core.search.integer_products import (
    Codes,
    codes_of,
    multiplies_bytes,
    products_of_inputs,
    products_of_weights,
    stacked,
)
from vitptq.methods.core.search.objective import CHANNELS, Cosine, Objective, cosine_distance
from vitptq.methods.core.search.operator_outputs import canonical, outputs, rows_of
from vitptq.methods.core.search.recording import Recording, Rows, Side

ROWS_OF_A_WEIGHT = 64
"""Rows that make it worth while to quantise a weight once more, which takes as long as 30 to 50 of a linear layer's."""

NARROW = 192
"""Inputs up to this width are compared in terms of their width, not by codes: faster at 96, slower at 384."""
KEPT = 2**27
"""Bytes that the codes of all candidates for a weight may take."""


def candidate_losses(
    parts: Sequence[Recording],
    side: Side,
    candidates: Candidates,
    objective: Objective,
    grid: Quantizer | None = None,
) -> CandidateLosses:
    """Return the losses of one side's candidates.

    The recordings hold the other side as it is to be used; `grid` is the quantizer that put it out.
    """
    found = [_of_one_size(part, side, candidates, objective, grid) for part in parts]
    return found[0] if len(found) == 1 else LossesOfSizes(found)


def _of_one_size(
    recording: Recording, side: Side, candidates: Candidates, objective: Objective, grid: Quantizer | None
) -> CandidateLosses:
    inputs, outputs = recording.second.shape[-1], recording.output.shape[-1]
    by_row = isinstance(objective, Cosine) and objective.axes == CHANNELS and objective.groups is None
    of_inputs = isinstance(recording.operator, Rows) and side == "second" and by_row and outputs > inputs
    by_codes = _by_codes(recording, side, candidates, objective, grid)
    if of_inputs and (by_codes is None or inputs <= NARROW):
        return CosineOfInputs.of(recording, candidates)
    return by_codes or OutputLosses(recording, side, candidates, objective)


def _by_codes(
    recording: Recording, side: Side, candidates: Candidates, objective: Objective, grid: Quantizer | None
) -> CodeLosses | None:
    """Return the losses by integer products, None where they are not fast or a side has no codes."""
    if not isinstance(recording.operator, Rows) or not multiplies_bytes(recording.output.device):
        return None
    varied, fixed = recording.first, recording.second
    if side == "second":
        varied, fixed = fixed[:1], varied
    codes = codes_of(fixed, grid)
    if not codes or not candidates.codes(varied, torch.zeros(1, dtype=torch.long)):
        return None
    return CodeLosses(recording, side, candidates, objective, codes)


class LossesOfSizes(CandidateLosses):
    """The losses on images of several sizes: the rows of one size behind those of the other, or in any order."""

    def __init__(self, parts: Sequence[CandidateLosses], size_of: Tensor | None = None) -> None:
        """Take the losses of each size, and for each row, on the CPU, the number of its size.

        A size's rows stay in order.
        """
        self.parts, self.device, self.groups = parts, parts[0].device, parts[0].groups
        lengths, numbers = torch.tensor([part.rows for part in parts]), torch.arange(len(parts))
        self.size_of = numbers.repeat_interleave(lengths) if size_of is None else size_of
        before = torch.nn.functional.one_hot(self.size_of, len(parts)).cumsum(0)
        self.before = torch.nn.functional.pad(before, (0, 0, 1, 0)).tolist()
        self.rows = len(self.size_of)
        self.size, self.fewest = max(part.size for part in parts), max(part.fewest for part in parts)

    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return losses (k, r, groups)."""
        of, to = self.before[rows.start], self.before[rows.stop]
        found = [
            part.losses(places, slice(start, stop))
            for part, start, stop in zip(self.parts, of, to, strict=True)
            if stop > start
        ]
        # the rows of a slice come size by size; where each belongs is the place of its size's rows, in order
        return torch.cat(found, dim=1)[:, self.size_of[rows].argsort(stable=True).argsort()]

    def ordered(self, order: Tensor) -> LossesOfSizes:
        """Return the same with the rows in another order."""
        order = order.cpu()
        within = torch.cat([torch.arange(part.rows) for part in self.parts])
        within = within[self.size_of.argsort(stable=True).argsort()]  # of each row, its number among those of its size
        size_of = self.size_of[order]
        parts = [part.ordered(within[order][size_of == i]) for i, part in enumerate(self.parts)]
        return LossesOfSizes(parts, size_of)


class OutputLosses(CandidateLosses):
    """Outputs computed and compared with the float output."""

    def __init__(self, recording: Recording, side: Side, candidates: Candidates, objective: Objective) -> None:
        self.recording, self.side, self.candidates, self.objective = recording, side, candidates, objective
        operator = recording.operator
        self.weights = side == "first" and not isinstance(operator, MatMul)
        self.target = canonical(operator, recording.output, 1)  # (rows, H, T, C)
        weighted = objective.weighted and recording.gradient is not None
        self.gradient = canonical(operator, recording.gradient, 1) if weighted else None  # type: ignore[arg-type]
        heads, channels = (self.target.shape[1] if objective.by_head else 1), objective.count(self.target.shape[-1])
        assert heads == 1 or channels == 1, "heads and channels cannot both be groups"
        self.device, self.rows, self.groups = self.target.device, len(self.target), heads * channels
        varied: Tensor = getattr(recording, side)
        self.size = self.target[0].numel() + -(-varied.numel() // self.rows)
        if self.weights:
            self.fewest = -(-ROWS_OF_A_WEIGHT // self.target[0, ..., 0].numel())

    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return losses (k, r, groups)."""
        error = canonical(self.recording.operator, self.outputs(places, rows), 2).sub_(self.target[rows])
        gradient = None if self.gradient is None else self.gradient[rows]
        return self.objective.losses(error, self.target[rows], gradient)

    def outputs(self, places: Tensor, rows: slice) -> Tensor:
        """Return the outputs (k, r, ...)."""
        operator, first, second = self.recording.operator, self.recording.first, self.recording.second[rows]
        if isinstance(operator, MatMul):
            first = first[rows]
        if self.side == "first":
            return outputs(operator, self.candidates(first, places), second, "first")
        return outputs(operator, first, self.candidates(second, places), "second")

    def ordered(self, order: Tensor) -> OutputLosses:
        """Return the same with the rows in another order."""
        return OutputLosses(rows_of(self.recording, order), self.side, self.candidates, self.objective)


class CodeLosses(OutputLosses):
    """The same for rows whose two sides have integer codes."""

    def __init__(
        self,
        recording: Recording,
        side: Side,
        candidates: Candidates,
        objective: Objective,
        fixed: tuple[Codes, ...],
    ) -> None:
        """Take the codes of the side that is not searched."""
        super().__init__(recording, side, candidates, objective)
        self.fixed = fixed
        self.kept: dict[int, tuple[Codes, ...]] = {}

    def outputs(self, places: Tensor, rows: slice) -> Tensor:
        """Return the outputs (k, r, C), those of weights strided."""
        if self.side == "first":
            weights = self._weights(places)
            inputs = [Codes(each.values[rows], each.scale) for each in self.fixed]
            found = [products_of_weights(weight, x) for weight in weights for x in inputs]
        else:
            varied = self.candidates.codes(self.recording.second[rows], places)
            found = [products_of_inputs(weight, x) for weight in self.fixed for x in varied]
        # a term that all candidates share has one entry
        out, *others = sorted(found, key=Tensor.numel, reverse=True)
        for other in others:
            out += other
        assert isinstance(self.recording.operator, Rows)
        if self.recording.operator.bias is not None:
            out += self.recording.operator.bias
        return out.transpose(0, 1) if self.side == "first" else out

    def _weights(self, places: Tensor) -> tuple[Codes, ...]:
        """Return the candidates' codes, each of them computed once where all together are not too large."""
        weight, codes = self.recording.first, self.candidates.codes
        if weight.numel() * self.candidates.count > KEPT:
            return codes(weight, places)
        for place in places.tolist():
            if place not in self.kept:
                self.kept[place] = codes(weight, places.new_tensor([place]))
        return tuple(map(stacked, zip(*(self.kept[place] for place in places.tolist()), strict=True)))

    def ordered(self, order: Tensor) -> CodeLosses:
        """Return the same with the rows in another order."""
        fixed = self.fixed
        if self.side == "first":
            fixed = tuple(Codes(each.values[order], each.scale) for each in fixed)
        found = CodeLosses(rows_of(self.recording, order), self.side, self.candidates, self.objective, fixed)
        found.kept = self.kept
        return found


class CosineOfInputs(CandidateLosses):
    """Cosine distances row by row for candidates d = x^ - x of a layer's input, from terms as wide as the input.

    With r = O - W x - b, the error W d - r has the square |r|^2 - 2 (W^T r) d + d^T (W^T W) d and the product
    (W^T O) d - O . r with the target. Expanded around the unquantised input, nothing larger than the error cancels.
    """

    def __init__(self, candidates: Candidates, matrix: Tensor, terms: Sequence[Tensor]) -> None:
        """Take W^T W (in, in) and, row by row, x, 2 W^T r and W^T O (R, in), |r|^2, O . r and |O|^2 (R,)."""
        self.candidates, self.matrix, self.terms = candidates, matrix, terms
        self.device, self.rows, self.size = matrix.device, len(terms[0]), 2 * len(matrix)

    @staticmethod
    def of(recording: Recording, candidates: Candidates) -> CosineOfInputs:
        """Return the losses of the input's candidates."""
        assert isinstance(recording.operator, Rows)
        x, weight, target = recording.second, recording.first, recording.output
        rest = target - torch.nn.functional.linear(x, weight, recording.operator.bias)
        products = (rest.square().sum(1), (target * rest).sum(1), target.square().sum(1))
        return CosineOfInputs(candidates, weight.T @ weight, (x, 2 * (rest @ weight), target @ weight, *products))

    def losses(self, places: Tensor, rows: slice) -> Tensor:
        """Return losses (k, r, 1)."""
        x, pull, direction, rest, offset, norm = (term[rows] for term in self.terms)
        d = self.candidates(x, places).sub_(x)  # (k, r, in)
        square = (d @ self.matrix).sub_(pull).mul_(d).sum(-1).add_(rest).clamp_min_(0)
        return cosine_distance(square, d.mul_(direction).sum(-1).sub_(offset), norm).unsqueeze(-1)

    def ordered(self, order: Tensor) -> CosineOfInputs:
        """Return the same with the rows in another order."""
        return CosineOfInputs(self.candidates, self.matrix, [term[order] for term in self.terms])
