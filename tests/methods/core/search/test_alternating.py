"""Searches against plain loops over all candidates, for every loss and every kind of operator; slots in turn."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.search.operator_recordings import (
    BITS,
    OBJECTIVES,
    OPERATORS,
    loop_in_float64,
    recording_of,
    recordings_of_sizes,
    run,
)
from vitptq.methods.core.model.operands import Convolution, Linear, MatMul
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search import elimination
from vitptq.methods.core.search.alternating import (
    SlotSearch,
    alternate,
    at_own_output,
    best_candidate,
    operator_slots,
)
from vitptq.methods.core.search.candidates import (
    Candidates,
    Scales,
    default_grouping,
    multiples,
    symmetric,
    whole_tensor,
)
from vitptq.methods.core.search.elimination import Best
from vitptq.methods.core.search.objective import SquaredError
from vitptq.methods.core.search.recording import MEGABYTE, Recording, Rows, Side, all_values

CASES = [
    (kind, side, objective)
    for kind, (build, _) in OPERATORS.items()
    for side in ("first", "second")
    for objective in OBJECTIVES
    # channels apart are compared along positions, which is for the weights of convolutions only
    if (objective != "token cosine" or not (side == "first" and isinstance(build(), Convolution)))
    and (objective != "position cosine" or (side == "first" and isinstance(build(), Convolution)))
]
EXHAUSTIVE, ELIMINATING = MEGABYTE, 6000
"""Memory with which everything fits one step, and with which candidates are given up."""


def winners_and_losses(kind: str, side: Side, objective: str, memory: int) -> tuple[Best, Tensor]:
    """Return what the search finds, and the losses (candidates, groups) of a loop in float64."""
    recording = recording_of(kind)
    if objective == "plain error":
        recording = replace(recording, gradient=None)
    assert not isinstance(recording.operator, Rows)
    x: Tensor = getattr(recording, side)
    group = default_grouping(None, "layer", recording.operator, side, x)  # type: ignore[arg-type]
    candidates = symmetric(group, x, 4, multiples(0.3, 1.2, 11))
    judged = OBJECTIVES[objective](candidates.judged, candidates.by_head)
    other = recording.second if side == "first" else recording.first
    best = best_candidate([recording], side, [other], candidates, judged, memory)
    return best, loop_in_float64(recording, side, candidates, judged)


def is_least(best: Best, losses: Tensor) -> bool:
    """Tell whether each group has a candidate of least loss; where two are equal up to rounding, either may win."""
    least = losses.amin(0)
    return torch.allclose(losses.gather(0, best.place[None])[0], least, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("memory", [EXHAUSTIVE, ELIMINATING])
@pytest.mark.parametrize(("kind", "side", "objective"), CASES)
def test_the_winner_is_that_of_a_loop_over_all_candidates(kind: str, side: Side, objective: str, memory: int) -> None:
    best, losses = winners_and_losses(kind, side, objective, memory)
    assert best.place.shape == losses[0].shape
    assert is_least(best, losses)
    torch.testing.assert_close(best.loss.double(), losses.amin(0), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "side", "objective"), CASES)
def test_images_of_several_sizes_have_one_winner(kind: str, side: Side, objective: str) -> None:
    parts = recordings_of_sizes(kind)
    if objective == "plain error":
        parts = [replace(part, gradient=None) for part in parts]
    xs = [getattr(part, side) for part in parts]
    x = all_values(xs, -1 if isinstance(parts[0].operator, Linear) else 1)
    group = default_grouping(None, "layer", parts[0].operator, side, x)  # type: ignore[arg-type]
    candidates = symmetric(group, x, 4, multiples(0.3, 1.2, 11))
    judged = OBJECTIVES[objective](candidates.judged, candidates.by_head)
    other = [part.second if side == "first" else part.first for part in parts]
    best = best_candidate(parts, side, other, candidates, judged, ELIMINATING)
    losses = torch.stack([loop_in_float64(part, side, candidates, judged) for part in parts]).sum(0)
    assert is_least(best, losses)
    torch.testing.assert_close(best.loss.double(), losses.amin(0), rtol=2e-3, atol=1e-4)


class NearlyEqual(Candidates):
    """Changes of about the same size, value by value, so that their losses lie close to each other."""

    count = 60

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        number = places.reshape(-1, *[1] * x.ndim) + 1.0
        return x + 0.1 * torch.sin(7 * number * x + number)

    def quantizer(self, place: Tensor) -> Any:
        return lambda x: self(x, place)[0]

    def default(self) -> Any:
        raise NotImplementedError


def decided_late(kind: str, side: Side, objective: str) -> tuple[Best, Tensor]:
    """Return winner and losses of candidates that a few rows put in one order and the many others in another."""
    torch.manual_seed(0)
    build, shape = OPERATORS[kind]
    operator: Any = build().requires_grad_(False)
    shape = (48, *shape[1:])
    second = torch.randn(shape)
    first = torch.randn(shape) if isinstance(operator, MatMul) else operator.weight
    output = run(operator, first, second)
    rows = torch.rand(len(output)).pow(-1.5).reshape(-1, *[1] * (output.ndim - 1))
    recording = Recording(operator, first, second, output, torch.randn(output.shape) * rows)
    if objective == "plain error":  # it grows with what the weight is multiplied by
        second = second * rows.reshape(-1, *[1] * (second.ndim - 1))
        recording = Recording(operator, first, second, run(operator, first, second))
    other = recording.second if side == "first" else recording.first
    judged = OBJECTIVES[objective](None, False)
    best = best_candidate([recording], side, [other], NearlyEqual(), judged, ELIMINATING)
    return best, loop_in_float64(recording, side, NearlyEqual(), judged)


@pytest.mark.parametrize("slack", [elimination.SLACK, -0.2])
@pytest.mark.parametrize("objective", ["weighted error", "plain error"])
def test_a_bound_that_gives_up_too_early_shows(objective: str, slack: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "SLACK", slack)
    cases = [(k, s) for k, s, o in CASES if o == objective and k in ("linear", "convolution", "queries and keys")]
    wrong = [case for case in cases if not is_least(*decided_late(*case, objective))]
    assert bool(wrong) == (slack < 0)


def test_rows_without_gradient_cost_nothing_and_change_nothing() -> None:
    torch.manual_seed(0)
    layer = Linear(nn.Linear(6, 4), BITS).requires_grad_(False)
    x = torch.randn(8, 5, 6)
    gradient = torch.zeros(8, 5, 4)
    gradient[:, 0] = torch.randn(8, 4)
    whole = Recording(layer, layer.weight, x, layer(x), gradient)
    few = Recording(layer, layer.weight, x[:, 0], layer(x[:, 0]), gradient[:, 0])
    candidates = symmetric(whole_tensor(), x, 4, multiples(0.3, 1.2, 30))
    one, two = (
        best_candidate([each], "second", [layer.weight], candidates, SquaredError(), MEGABYTE) for each in (whole, few)
    )
    assert torch.equal(one.place, two.place)
    torch.testing.assert_close(one.loss, two.loss)


def slots_of(recording: Recording) -> list[SlotSearch]:
    factors = torch.cat([multiples(0.3, 1.2, 30), torch.ones(1)])  # with the start, so that no turn can make it worse
    operator = recording.operator
    assert isinstance(operator, Linear)
    return operator_slots(
        operator,
        [recording],
        lambda operator, side, x: [symmetric(whole_tensor(), x, 4, f * factors) for f in (1, 0.9)],
    )


def output_error(recording: Recording, slots: list[SlotSearch]) -> Tensor:
    assert isinstance(recording.operator, Linear) and recording.gradient is not None
    out = nn.functional.linear(slots[1].quantised()[0], slots[0].quantised()[0], recording.operator.bias)
    return ((out - recording.output) * recording.gradient).square().sum()


def test_no_turn_makes_the_output_worse_and_the_best_family_wins() -> None:
    recording = recording_of("linear")
    slots = slots_of(recording)
    judge, errors = at_own_output([recording], slots, MEGABYTE), [output_error(recording, slots)]
    for _ in range(2):
        for slot in slots:
            slot.run(judge)
            errors.append(output_error(recording, slots))
            others = [family.quantizer(torch.tensor([i])) for family in slot.families for i in range(family.count)]
            kept, found = slot.quantizer, []
            for slot.quantizer in others:
                found.append(output_error(recording, slots))
            slot.quantizer = kept
            torch.testing.assert_close(errors[-1], torch.stack(found).amin(), rtol=1e-5, atol=0)
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in itertools.pairwise(errors))


def test_a_slot_whose_surroundings_did_not_change_is_not_searched_again() -> None:
    recording = recording_of("linear")
    slots = slots_of(recording)
    judge, searched = at_own_output([recording], slots, MEGABYTE), []

    def counting(slot: SlotSearch, candidates: Candidates, guess: Tensor | None) -> Best:
        searched.append(slot)
        return judge(slot, candidates, guess)

    found = alternate(slots, counting, 50)
    assert len(searched) < 2 * 2 * 50 / 3
    again = alternate(slots, counting, 1)
    assert all(again[slot] is quantizer for slot, quantizer in found.items())


def test_a_fixed_slot_keeps_its_quantizer() -> None:
    recording = recording_of("linear")
    slots = slots_of(recording)
    fixed = Uniform(4, torch.tensor(0.2), torch.tensor(0.0), signed=True)
    slots[1].families, slots[1].quantizer = (), fixed
    found = alternate(slots, at_own_output([recording], slots, MEGABYTE), 2)
    assert found[slots[1].operand] is fixed
    assert isinstance(slots[0].families[0], Scales) and found[slots[0].operand] is not fixed
