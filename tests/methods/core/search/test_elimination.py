"""Elimination: the winner of everything computed, with less computed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitptq.methods.core.search import elimination
from vitptq.methods.core.search.elimination import Best, CandidateLosses, eliminate


@dataclass
class Table(CandidateLosses):
    """Losses that are known, and how many of them were asked for."""

    table: Tensor
    """(candidates, rows, groups)"""
    size: int = 7
    fewest: int = 1
    asked: list[int] = field(default_factory=list)
    spans: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.device = self.table.device
        _, self.rows, self.groups = self.table.shape

    def losses(self, places: Tensor, rows: slice) -> Tensor:
        found = self.table[places, rows]
        self.asked.append(found.shape[0] * found.shape[1])
        self.spans.append(found.shape[1])
        assert found.shape[0] * found.shape[1] > 0
        return found

    def ordered(self, order: Tensor) -> Table:
        return replace(self, table=self.table[:, order])


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 70),
    st.integers(1, 4),
    st.integers(1, 3000),
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([1, 9]),
)
def test_winner_is_that_of_everything_computed(
    count: int, rows: int, groups: int, step: int, seed: int, guessed: bool, fewest: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randint(0, 50, (count, rows, groups), generator=generator).float()  # ties happen
    guess = torch.randint(0, count, (groups,), generator=generator) if guessed else None
    best = eliminate(Table(table, fewest=fewest), count, step, guess)
    sums = table.double().sum(1)
    assert torch.equal(best.loss, sums.amin(0))
    first = (sums == sums.amin(0)).int().argmax(0)
    assert torch.equal(best.place, first)


def close_decision() -> Table:
    """Return a leader that loses 100, a winner that loses 90, most of it early, and others that lose theirs late."""
    table = torch.full((17, 64, 1), 100 / 64)
    table[8] = torch.linspace(1.1, 0.9, 64)[:, None] * 100 / 64  # in the middle, so it runs first
    table[3, :32], table[3, 32:] = 85 / 32, 5 / 32
    others = [place for place in range(17) if place not in (3, 8)]
    table[others, :32], table[others, 32:] = 10 / 32, 200 / 32
    return Table(table)


def test_a_winner_that_loses_early_is_not_given_up() -> None:
    assert eliminate(close_decision(), 17, step=100).place.item() == 3


def test_a_bound_that_gives_up_too_early_finds_another_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "SLACK", -0.2)
    assert eliminate(close_decision(), 17, step=100).place.item() == 8


def test_losers_are_given_up_early() -> None:
    torch.manual_seed(0)
    scale = torch.linspace(-1, 1, 100).square().mul(50).add(1)
    table = Table(torch.rand(100, 640, 1) * scale[:, None, None])
    best = eliminate(table, 100, 5000)
    assert best.place.item() == table.table.sum(1).argmin().item()
    assert sum(table.asked) < 0.3 * 100 * 640


def test_candidates_that_are_dear_to_make_are_not_made_for_few_rows() -> None:
    torch.manual_seed(0)
    table = Table(torch.rand(100, 640, 1), fewest=100)
    eliminate(table, 100, 7 * 100 * 640 - 1)  # a step takes all rows of many candidates
    assert min(table.spans) >= 60  # from 100 rows to the 160 behind which the next are given up


def test_first_of_equals_wins() -> None:
    best = Best.of(torch.tensor([[2.0, 1.0], [1.0, 1.0], [1.0, 3.0]]))
    assert best.place.tolist() == [1, 0]
    assert best.loss.tolist() == [1, 1]


@pytest.mark.parametrize("step", [1, 10**6])
def test_a_loss_that_is_no_number_never_wins(step: int) -> None:
    table = torch.ones(3, 20, 1)
    table[0] = torch.nan
    assert eliminate(Table(table * torch.tensor([1, 3, 2])[:, None, None]), 3, step).place.item() == 2
