from tests.bench.record_factory import make_cards, make_record, realistic_board, realistic_records
from vitptq.bench.board.board import Board


def test_no_records_make_an_empty_board():
    board = Board.from_records([], make_cards())

    assert board.tables == ()
    assert board.records == 0


def test_the_same_record_from_two_folders_counts_once():
    record = make_record()

    assert Board.from_records([record, record], make_cards()).records == 1


def test_the_board_does_not_depend_on_the_order_of_the_records():
    records = realistic_records()

    forwards, backwards = (Board.from_records(r, make_cards()) for r in (records, records[::-1]))
    assert forwards.rows == backwards.rows


def test_failures_are_listed_with_their_rows():
    board = realistic_board()

    assert {record.failure.kind for _, record in board.failures} == {"unsupported", "out_of_memory"}
