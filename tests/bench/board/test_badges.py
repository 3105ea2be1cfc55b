from dataclasses import replace

from tests.bench.board_factory import finished, only_row, row_of, seeds
from tests.bench.record_factory import make_card, make_cards, make_cell, make_provenance, make_record
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.folders import Origins


def test_an_audit_violation_is_a_badge_and_keeps_the_row_from_the_highest():
    cheat = make_record(make_cell(method="ema"), score=94.0, violations=["head stayed float"])
    board = Board.from_records([cheat, make_record(score=80.0)], make_cards())

    assert row_of(board, method="ema").badges[0].text == "audit: 1 violation"
    assert board.tables[0].highest(BitSpec(4, 4)) is row_of(board, method="minmax")


def test_notes_and_inferred_parts_are_badges():
    record = make_record(make_cell(method="omse"), notes=("reduced: 10 iterations",))

    assert [b.text for b in only_row([record]).badges] == ["inferred", "reduced"]
    assert [b.text for b in only_row([make_record(notes=("odd",))]).badges] == ["note"]


def test_ranges_that_are_found_while_the_model_runs_are_a_badge():
    record = make_record()
    audit = record.audit.model_copy(update={"dynamic": True})
    assert [b.text for b in only_row([record.model_copy(update={"audit": audit})]).badges] == ["dynamic ranges"]


def test_parts_that_an_adapter_from_a_paper_had_to_infer_are_a_badge():
    (badge,) = only_row([make_record()], {"minmax": make_card("minmax", inferred=("the grid", "the order"))}).badges

    assert badge.text == "2 parts inferred"
    assert badge.meaning == "fidelity paper, but the paper leaves something open; inferred: the grid; the order"


def test_row_whose_code_cannot_be_had_again_is_not_official():
    (badge,) = only_row([make_record(provenance=make_provenance(dirty=True))]).badges

    assert badge.text == "not official"
    assert badge.meaning.endswith("the clone had uncommitted changes")


def test_row_of_a_changed_adapter_is_stale():
    record = make_record(make_cell(source=sha256(b"before")))
    assert "stale" in [badge.text for badge in only_row([record]).badges]
    assert "stale" not in [badge.text for badge in only_row([make_record()]).badges]


def test_stale_record_is_replaced_by_the_one_of_the_changed_adapter():
    before = make_record(make_cell(source=sha256(b"before")), provenance=finished(1))
    row = only_row([before, make_record(provenance=finished(2))])
    assert "stale" not in [badge.text for badge in row.badges]
    assert row.superseded == 1


def test_records_measured_here_are_marked_among_committed_ones():
    one, two = seeds(80.0, 81.0)
    board = Board.from_records([one, two], make_cards(), origins=Origins({one.id: "committed", two.id: "here"}))
    assert "1 of 2 here" in [badge.text for badge in board.rows[0].badges]


def test_values_that_stay_in_float_beside_a_grid_are_a_badge():
    record = make_record()
    first, *rest = record.audit.operands
    kept = replace(first, float_values=1, group=197)
    audit = record.audit.model_copy(update={"operands": (kept, *rest)})
    (badge,) = only_row([record.model_copy(update={"audit": audit})]).badges

    assert badge.text == "float maxima"
    assert badge.meaning.startswith("of 1 operand one value in 197 or more stays in float")


def test_float_side_branches_are_a_badge_with_what_they_cost():
    record = make_record(make_cell(bits="W4A4+branch"))
    first, second, *rest = record.audit.operands
    sides = [replace(side, branch=True) for side in (first, second)]
    parameters = {"body": 1000, "branch": 77}
    audit = record.audit.model_copy(update={"operands": (*sides, *rest), "parameters": parameters})
    (badge,) = only_row([record.model_copy(update={"audit": audit})]).badges

    assert badge.text == "float branch"
    assert "77 more parameters" in badge.meaning
