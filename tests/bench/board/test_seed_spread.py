"""Spread over draws, pooled over the methods of a table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from vitptq.bench.board.seed_spread import bartlett, pooled

RNG = np.random.default_rng


def scores(deviations: list[float], seeds: int = 3, common: float = 0.0) -> dict[str, dict[int, float]]:
    rng = RNG(4)
    shared = common * rng.standard_normal(seeds)
    return {
        f"row-{row}": {s: float(80 + shared[s] + deviation * rng.standard_normal()) for s in range(seeds)}
        for row, deviation in enumerate(deviations)
    }


def test_spreads_that_look_alike_are_pooled_with_all_their_degrees_of_freedom() -> None:
    found = pooled(scores([0.5] * 12))
    assert found is not None
    assert found.freedom == 22
    assert found.variance == pytest.approx(0.25, rel=0.4)
    assert found.covers("row-0", "row-11") and not found.covers("row-0", "another")


def test_what_all_methods_owe_to_a_draw_is_no_spread() -> None:
    alone, together = pooled(scores([0.5] * 12)), pooled(scores([0.5] * 12, common=5.0))
    assert alone is not None and together is not None
    assert together.variance == pytest.approx(alone.variance, rel=1.0)
    assert together.variance < 1


def test_spreads_that_differ_are_not_pooled() -> None:
    assert pooled(scores([0.1, 0.1, 0.1, 0.1, 8.0])) is None


def test_two_methods_are_too_few_to_pool() -> None:
    assert pooled(scores([0.5, 0.5])) is None
    assert pooled({}) is None
    assert pooled(scores([0.5] * 5, seeds=1)) is None


def test_a_method_without_randomness_takes_no_part() -> None:
    found = pooled(scores([0.5] * 4) | {"fixed": dict.fromkeys(range(3), 80.0)})
    assert found is not None
    assert found.methods == {f"row-{row}" for row in range(4)}


def test_a_row_that_lacks_a_seed_takes_no_part() -> None:
    table = scores([0.5] * 4)
    del table["row-2"][1]
    found = pooled(table)
    assert found is not None
    assert found.methods == {"row-0", "row-1", "row-3"}


def test_bartletts_test_is_scipys() -> None:
    rng = RNG(0)
    groups = [rng.standard_normal(4) * scale for scale in (1, 1.5, 3)]
    expected = stats.bartlett(*groups).pvalue
    assert bartlett([float(group.var(ddof=1)) for group in groups], 4) == pytest.approx(expected)
