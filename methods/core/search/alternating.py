"""Searches at the output of an operator: the best candidate of one slot, and slots that are searched in turn.

Errors are quadratic forms of a weight where that is cheaper (`gram`); else outputs are computed many candidates at a
time, and not to the end for candidates that cannot win any more (`elimination`). The winner is always that of a plain
loop, and the tensors of one step stay within a stated memory budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.search.candidate_losses import candidate_losses
from vitptq.methods.core.search.candidates import Candidates
from vitptq.methods.core.search.elimination import GPU_STEP, STEP, Best, eliminate
from vitptq.methods.core.search.gram import gram_losses
from vitptq.methods.core.search.objective import CHANNELS, Cosine, Objective, SquaredError
from vitptq.methods.core.search.operator_outputs import in_rows, joined_rows, weighted_rows
from vitptq.methods.core.search.recording import SIDES, Operator, Recording, Side, all_values, sides

FLOAT = 4
COPIES = 4
"""Tensors of the size of a step's outputs that live at once: the outputs, and what the objective makes of them."""


@dataclass(eq=False)
class SlotSearch:
    """One slot whose quantizer is searched while those around it are fixed."""

    operand: Operand
    """The slot."""
    side: Side
    x: Sequence[Tensor]
    """What the slot reads in the float model, one tensor for each size of images; a weight is the same for all."""
    families: Sequence[Candidates]
    """What it may become, the default first; none where the quantizer is fixed."""
    quantizer: Quantizer
    winner: tuple[Candidates, Tensor] | None = None
    """The candidates that won, and the place of each group's winner among them."""
    around: list[Quantizer] | None = None
    """The other slots' quantizers at the last search."""

    @staticmethod
    def of(operand: Operand, side: Side, x: Sequence[Tensor], families: Sequence[Candidates]) -> SlotSearch:
        """Return the search of a slot that starts from its default quantizer."""
        return SlotSearch(operand, side, x, families, families[0].default())

    def quantised(self) -> list[Tensor]:
        """Return what the slot puts out as it is now."""
        first: Tensor = self.quantizer(self.x[0])
        return [first, *(first if x is self.x[0] else self.quantizer(x) for x in self.x[1:])]

    def run(self, judge: Judge) -> None:
        """Take the best candidate of all families; the quantizer stays the same object where the winner does."""
        found = []
        for candidates in self.families:
            guess = self.winner[1] if self.winner is not None and self.winner[0] is candidates else None
            best = judge(self, candidates, guess)
            found.append((best.loss.sum(), candidates, best.place))
        _, candidates, place = min(found, key=lambda each: each[0].item())
        if self.winner is None or self.winner[0] is not candidates or not torch.equal(self.winner[1], place):
            self.winner, self.quantizer = (candidates, place), candidates.quantizer(place)


Judge = Callable[[SlotSearch, Candidates, Tensor | None], Best]
"""(slot, candidates, places that are likely to win) to the best of these, with the other slots as they are."""
ObjectiveFor = Callable[[SlotSearch, Candidates], Objective]


def alternate(slots: Sequence[SlotSearch], judge: Judge, rounds: int) -> dict[Operand, Quantizer]:
    """Return the quantizers of slots that are searched in turn, in rounds.

    A slot whose surroundings are as at its last search is not searched again: the result would be the same.
    """
    for _ in range(rounds):
        for slot in (slot for slot in slots if slot.families):
            alone = all(candidates.other_in_float for candidates in slot.families)
            around = [] if alone else [other.quantizer for other in slots if other is not slot]
            if slot.around is None or any(a is not b for a, b in zip(around, slot.around, strict=True)):
                slot.around = around
                slot.run(judge)
    return {slot.operand: slot.quantizer for slot in slots}


def operator_slots(
    operator: Operator, parts: Sequence[Recording], families: Callable[[Operator, Side, Tensor], Sequence[Candidates]]
) -> list[SlotSearch]:
    """Return the searches of both slots of an operator; `families(operator, side, x)` are the candidates of one."""
    slots = []
    for slot, side in zip(sides(operator), SIDES, strict=True):
        x = [getattr(part, side) for part in parts]
        axis = slot.channel_axis if slot.head_axis is None else slot.head_axis
        slots.append(SlotSearch.of(slot, side, x, families(operator, side, all_values(x, axis))))
    return slots


def squared_error(slot: SlotSearch, candidates: Candidates) -> SquaredError:
    """Return the error, weighted with the gradient where there is one, group by group of the candidates."""
    return SquaredError(candidates.judged, candidates.by_head)


def at_own_output(
    parts: Sequence[Recording], slots: Sequence[SlotSearch], memory: int, objective: ObjectiveFor = squared_error
) -> Judge:
    """Return what judges the two slots of an operator by the operator's output."""

    def judge(slot: SlotSearch, candidates: Candidates, guess: Tensor | None) -> Best:
        (other,) = (each for each in slots if each is not slot)
        in_float = candidates.other_in_float
        fixed, grid = (other.x, None) if in_float else (other.quantised(), other.quantizer)
        return best_candidate(parts, slot.side, fixed, candidates, objective(slot, candidates), memory, guess, grid)

    return judge


@torch.no_grad()
def best_candidate(
    parts: Sequence[Recording],
    side: Side,
    other: Sequence[Tensor],
    candidates: Candidates,
    objective: Objective,
    memory: int,
    guess: Tensor | None = None,
    grid: Quantizer | None = None,
) -> Best:
    """Return the best candidate of `side` per group of the objective; ties: the first.

    `parts` are the recordings of an operator, one for each size of images, `other` the other side of each as it is to
    be used, `grid` the quantizer that put it out; `guess` names candidates that are likely to win. A step's tensors
    take about `memory` bytes at most.
    """
    parts = [
        replace(part, second=fixed) if side == "first" else replace(part, first=fixed)
        for part, fixed in zip(parts, other, strict=True)
    ]
    if not isinstance(objective, Cosine) or objective.axes == CHANNELS:
        parts = joined_rows([in_rows(part) for part in parts])
    squared, step = isinstance(objective, SquaredError), step_size(memory, parts[0].output.device)
    if squared:
        parts = [weighted_rows(part) for part in parts]
    if squared and side == "first":
        gram = gram_losses(parts, candidates.count, objective.groups, memory)
        if gram is not None:
            return gram.best(candidates, step)
    return eliminate(candidate_losses(parts, side, candidates, objective, grid), candidates.count, step, guess)


def step_size(memory: int, device: torch.device) -> int:
    """Return how many values the largest tensor of a step may have."""
    return max(1, min(STEP if device.type == "cpu" else GPU_STEP, memory // (COPIES * FLOAT)))
