"""Tables that a method told, as the run page shows them."""

from __future__ import annotations

from tests.bench.record_factory import make_record
from vitptq.bench.website.method_tables import method_tables


def record(**tables):
    return make_record(details={"method": {"tables": tables}})


def test_rows_become_a_table_with_columns_for_inner_mappings() -> None:
    rows = [{"unit": "a", "before": {"loss": 0.5}, "kept": True}, {"unit": "b", "before": {"loss": None}, "more": 7}]
    (table,) = method_tables(record(reconstruction={"rows": rows}))
    assert table.columns == ("unit", "before loss", "kept", "more")
    assert table.rows == (("a", "0.5", "yes", "–"), ("b", "–", "–", "7"))


def test_a_text_stands_above_its_rows() -> None:
    (table,) = method_tables(record(importance={"text": "what it means", "rows": [{"unit": "a", "H": 1e-9}]}))
    assert (table.name, table.text, table.rows) == ("importance", "what it means", (("a", "1e-09"),))


def test_figures_are_no_table_whatever_their_shape() -> None:
    figures = {"seconds": 3, "names": ["a", "b"], "like rows": [{"a": 1}], "mapping": {"rows": [{"a": 1}]}}
    assert method_tables(make_record(details={"method": {"figures": figures}})) == ()


def test_a_table_without_rows_is_empty() -> None:
    (table,) = method_tables(record(reconstruction={"rows": []}))
    assert (table.columns, table.rows) == ((), ())


def test_bars_are_shares_of_the_largest_value_and_full_where_there_is_none() -> None:
    rows = [{"layer": "a", "rank": 3, "most": 12}, {"layer": "b", "rank": None, "most": 12}]
    (table,) = method_tables(record(ranks={"rows": rows, "bars": ["rank", "most"]}))
    assert table.bars == (25.0, 100.0)
    assert method_tables(record(ranks={"rows": rows}))[0].bars == ()
