from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_card, make_cards, make_cell, make_record
from vitptq.bench.board.board import Board


def test_tasks_stand_side_by_side_at_the_bits_that_most_models_share():
    cells = [
        make_cell(task=task, model=model, bits=bits)
        for task, model in (("classification", "vit"), ("coco", "mask_rcnn"))
        for bits in ("W8A8", "W4A4")
    ]
    cells.append(make_cell(task="coco", model="mask_rcnn", bits="W3A3"))
    cells.append(make_cell(task="classification", model="vit", method="omse"))
    (comparison,) = Board.from_records([make_record(cell) for cell in cells], make_cards()).comparisons()
    assert [(task, [t.model for t in tables]) for task, tables in comparison.tasks] == [
        ("classification", ["vit"]),
        ("coco", ["mask_rcnn"]),
    ]
    assert str(comparison.bits) == "W4A4"
    assert [[row and row.cell.method for row in line] for line in comparison.lines] == [
        ["minmax", "minmax"],
        ["omse", None],
    ]


def test_one_task_alone_is_no_comparison():
    assert Board.from_records([make_record(make_cell())], make_cards()).comparisons() == ()


def test_a_count_over_models_says_of_how_many_and_what_is_missing():
    scores = {("vit", "omse"): 90.0, ("vit", "minmax"): 80.0, ("deit", "omse"): 80.0, ("deit", "minmax"): 80.1}
    records = [make_record(make_cell(model=model, method=name), score=s) for (model, name), s in scores.items()]
    records += [make_record(make_cell(task="coco", model="mask_rcnn", method="omse"))]
    records += [make_record(make_cell(model="deit", method="ema"), failure="raised")]
    (comparison,) = board_of(*records).comparisons()
    counts = {next(filter(None, line)).cell.method: comparison.top_groups(line) for line in comparison.lines}
    assert counts == {"minmax": "1 of 2, 1 missing", "omse": "3 of 3"}
    tables = {table.model: table for table in comparison.tables}
    assert comparison.absence(tables["mask_rcnn"], "minmax") == "not run"
    assert comparison.absence(tables["deit"], "ema") == "none counts"


def test_methods_are_listed_by_their_titles_whatever_the_case():
    cells = [make_cell(task=task, method=name) for task in ("classification", "coco") for name in ("alpha", "omse")]
    cards = make_cards(["omse"]) | {"alpha": make_card("alpha", title="alpha")}
    board = Board.from_records([make_record(cell) for cell in cells], cards)
    (comparison,) = board.comparisons()
    assert [line[0].card.title for line in comparison.lines if line[0]] == ["alpha", "OMSE"]
    assert [line[0].label for line in board.tables[0].lines] == ["alpha", "OMSE"]
