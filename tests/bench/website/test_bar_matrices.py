"""Bars of a method's tables, of several specs beside each other."""

from __future__ import annotations

from tests.bench.record_factory import make_cards, make_cell, make_record
from vitptq.bench.board.board import Board
from vitptq.bench.website.bar_matrices import bar_matrices


def record(bits: str, ranks: dict[str, int | None], name: str = "kept ranks"):
    rows = [{"layer": layer, "rank": rank, "most": 10} for layer, rank in ranks.items()]
    tables = {name: {"text": "what a rank is", "rows": rows, "bars": ["rank", "most"]}}
    return make_record(make_cell(bits=bits), details={"method": {"tables": tables}})


def test_specs_stand_beside_each_other_layer_by_layer() -> None:
    records = [record("W32A32+lowrank20", {"a": 5, "b": None}), record("W32A32+lowrank40", {"a": 2})]
    (matrix,) = bar_matrices(Board.from_records(records, make_cards()).rows)
    assert matrix.columns == ("W32A32+lowrank20", "W32A32+lowrank40")
    assert matrix.lines == (("a", (("5", 50.0), ("2", 20.0))), ("b", (("–", 100.0), None)))
    assert (matrix.name, matrix.text) == ("kept ranks", "what a rank is")


def test_tables_without_bars_and_rows_without_a_score_are_left_out() -> None:
    plain = make_record(details={"method": {"tables": {"units": {"rows": [{"unit": "a"}]}}}})
    failed = make_record(make_cell(bits="W4A4", seed=1), failure="raised")
    assert bar_matrices(Board.from_records([plain, failed], make_cards()).rows) == ()
