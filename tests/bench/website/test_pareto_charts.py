"""Score against cost."""

import re

from tests.bench.board_factory import only_table
from tests.bench.record_factory import make_cell, make_costs, make_record
from vitptq.bench.bits import BitSpec
from vitptq.bench.website import charts
from vitptq.bench.website.pareto_charts import front, panels, ties

W4A4 = BitSpec.parse("W4A4")


def table_of(**measured):
    """Return the table of methods with a score and a quantising time."""
    records = []
    for method, (score, seconds) in measured.items():
        cell = make_cell(method=method)
        costs = make_costs(cell).model_copy(update={"quantise_s": seconds})
        records.append(make_record(cell, score=score, costs=costs))
    return only_table(records)


def names(rows):
    return [row.cell.method for row in rows]


def seconds(row):
    return row.cost("quantise_s")


def test_the_front_holds_what_nothing_beats_at_the_same_or_a_lower_cost():
    table = table_of(minmax=(70.0, 1.0), ema=(69.0, 2.0), omse=(80.0, 3.0), psaq=(80.0, 4.0), repq_vit=(90.0, 9.0))

    assert names(front(table.dense, seconds)) == ["minmax", "omse", "repq_vit"]


def test_a_slower_row_that_is_not_shown_to_be_worse_is_within_the_front():
    table = table_of(omse=(90.0, 1.0), ema=(89.9, 2.0), minmax=(80.0, 3.0))

    assert names(ties(table, table.dense, front(table.dense, seconds))) == ["ema"]


def test_every_row_is_drawn_once_and_the_front_with_its_name():
    table = table_of(minmax=(70.0, 1.0), ema=(69.9, 20.0), omse=(90.0, 300.0), psaq=(60.0, 4.0))
    panel = panels(table, W4A4, charts.styles(["minmax", "ema", "omse", "psaq"]))[0]

    assert [mark.label for mark in panel.front] == ["MinMax", "OMSE"]
    assert len(panel.front) + panel.ties.count("M") + panel.rest.count("M") == 4
    assert panel.front_path.count("V") == 1
    assert [text for _, text in panel.columns] == ["1", "10", "100"]
    assert "OMSE, W4A4: 90.00 at 300 seconds" in panel.description


def test_labels_lie_inside_and_never_on_each_other():
    measured = {f"m{i}": (70.0 + i, 1.0 + i / 50) for i in range(12)}
    panel = panels(table_of(**measured), W4A4, charts.styles(list(measured)))[0]
    placed = [(mark.label_x, mark.label_y, mark.anchor, mark.label) for mark in panel.front if mark.label]

    assert 1 <= len(placed) <= 12
    boxes = [(x - (6 * len(t) if a == "end" else 0), y, 6 * len(t)) for x, y, a, t in placed]
    assert all(x >= 0 and x + width <= panel.size.width for x, _, width in boxes)
    for i, (x, y, width) in enumerate(boxes):
        for other_x, other_y, other_width in boxes[i + 1 :]:
            assert abs(y - other_y) >= 12 or x + width <= other_x or other_x + other_width <= x


def test_one_row_is_no_chart_and_times_of_nothing_are_left_out():
    assert panels(table_of(minmax=(70.0, 1.0)), W4A4, charts.styles(["minmax"])) == ()
    drawn = panels(table_of(minmax=(70.0, 0.0), omse=(80.0, 0.0)), W4A4, charts.styles(["minmax", "omse"]))
    assert [re.sub(" at .*", "", panel.title) for panel in drawn] == ["Mean bits", "Model size"]
