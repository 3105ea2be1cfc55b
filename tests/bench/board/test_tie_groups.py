"""Ranks as intervals and groups that tie, from tests of all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitptq.bench.board.image_noise import ImageNoise
from vitptq.bench.board.paired_difference import Difference, Draw
from vitptq.bench.board.tie_groups import TieGroups, holm, tie_groups, within


def planted(separated: set[tuple[str, str]], rows: str = "wxyz", p: float = 1e-6) -> TieGroups:
    pairs = itertools.combinations(rows, 2)
    return TieGroups(
        tuple(rows),
        {pair: Difference(0, 0, "images", 1.0, 1, p if pair in separated else 0.5) for pair in pairs},
    )


def test_ranks_need_no_order_between_rows_that_are_not_separated() -> None:
    # w is better than z only: y ties with both, so that ties are not transitive
    groups = planted({("w", "z")})
    assert [str(groups.rank(row)) for row in "wxyz"] == ["1–3", "1–4", "1–4", "2–4"]
    assert groups.letters == {"w": "A", "x": "A", "y": "A", "z": "B"}


def test_every_separated_row_has_a_rank_of_its_own() -> None:
    groups = planted(set(itertools.combinations("wxyz", 2)))
    assert [str(groups.rank(row)) for row in "wxyz"] == ["1", "2", "3", "4"]
    assert "".join(groups.letters.values()) == "ABCD"


def test_more_comparisons_need_smaller_p_values() -> None:
    pair = {("w", "x")}
    assert planted(pair, rows="wx", p=0.02).letters == {"w": "A", "x": "B"}
    assert planted(pair, rows="wxyz", p=0.02).letters["x"] == "A"


def test_a_smaller_family_is_corrected_anew() -> None:
    groups = planted({("w", "x")}, p=0.02)
    assert str(within(groups, ["w", "x"]).rank("x")) == "2"
    assert within(groups, ["w", "x"]).rank("z") is None


def test_pairs_that_cannot_be_compared_are_never_separated() -> None:
    draws = {seed: Draw(score, ImageNoise(np.arange(1000) < 10 * score)) for seed, score in ((0, 90.0), (1, 50.0))}
    groups = tie_groups([("a", {0: draws[0]}), ("b", {1: draws[1]})])
    assert groups.differences == {}
    assert groups.letters == {"a": "A", "b": "A"}


def test_three_draws_of_three_seeds_separate_little_until_their_spread_is_pooled() -> None:
    rng = np.random.default_rng(3)
    common = rng.random(3000)

    def draws(share: float) -> dict[int, Draw]:
        found = {}
        for seed in range(3):
            right = common < share + 0.002 * rng.standard_normal()
            found[seed] = Draw(100 * float(right.mean()), ImageNoise(right))
        return found

    rows = [(f"row-{i:02}", draws(0.95 - 0.01 * i)) for i in range(12)]
    pooled = tie_groups(rows)
    alone = tie_groups(rows[:2])
    assert pooled.spread is not None and pooled.spread.freedom == 22
    assert alone.spread is None
    assert pooled.rank("row-06").worst - pooled.rank("row-06").best <= 4  # type: ignore[union-attr]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holms_values_keep_the_order_and_are_at_least_the_p_values(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(a <= 1 for a in adjusted)
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


@pytest.mark.parametrize(("p", "expected"), [([], []), ([0.2], [0.2]), ([0.01, 0.01], [0.02, 0.02])])
def test_holm_worked_out_by_hand(p: list[float], expected: list[float]) -> None:
    assert holm(p) == expected
