import itertools

import pytest

from tests.bench.board_factory import only_table, row_of
from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import make_cards, make_cell, make_detection_records, make_record, realistic_board
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.errors import UnknownName

W4A4, W8A8 = BitSpec(4, 4), BitSpec(8, 8)


def test_rows_are_read_float_first_then_more_bits_then_higher_scores():
    table = realistic_board().tables[2]
    keys = [(not r.is_float, -r.bits.weights, -r.score) for r in table.counted]

    assert keys == sorted(keys)


def test_rows_with_equal_scores_keep_one_order():
    records = [make_record(make_cell(method=m)) for m in ("omse", "minmax", "ema")]
    orders = {tuple(r.id for r in Board.from_records(p, make_cards()).rows) for p in itertools.permutations(records)}

    assert len(orders) == 1


def test_a_row_stands_out_only_where_every_other_is_shown_to_be_worse():
    far = [make_record(make_cell(method="omse"), score=90.0), make_record(score=80.0)]
    near = [make_record(make_cell(method="omse"), score=80.1), make_record(score=80.0)]
    for records, expected in [(far, True), (near, False), (far[:1], False)]:
        table = only_table(records)
        assert table.stands_out(table.highest(W4A4)) is expected


def test_no_row_stands_out_where_a_rivals_evidence_is_missing():
    class Half(PlantedNoise):
        def of(self, record):
            return {} if record.cell.method == "ema" else super().of(record)

    records = [make_record(make_cell(method=m), score=s) for m, s in (("omse", 90.0), ("minmax", 80.0), ("ema", 70.0))]
    table = only_table(records, Half())
    assert not table.stands_out(table.highest(W4A4))
    assert [row.cell.method for row in table.uncompared(W4A4)] == ["ema"]
    assert any("1 row has no rank" in note for note in table.comparison_notes)


def test_ranks_are_intervals_and_rows_that_the_data_cannot_separate_share_a_group():
    scores = {"repq_vit": 90.0, "omse": 89.9, "minmax": 80.0, "psaq": 70.0}
    table = only_table(make_record(make_cell(method=name), score=score) for name, score in scores.items())
    found = {row.cell.method: (str(table.rank(row)), table.group(row)) for row in table.quantised}
    assert found == {"repq_vit": ("1–2", "A"), "omse": ("1–2", "A"), "minmax": ("3", "B"), "psaq": ("4", "C")}
    assert [row.cell.method for row in table.winners(W4A4)] == ["repq_vit", "omse"]


def test_data_free_rows_have_a_mark_and_a_rank_of_their_own():
    table = only_table(
        make_record(make_cell(method=name), score=score) for name, score in (("minmax", 80.0), ("psaq", 70.0))
    )
    made, real = row_of(table, method="psaq"), row_of(table, method="minmax")
    assert (str(table.rank(made)), str(table.rank(made, "data-free"))) == ("2", "1")
    assert (str(table.rank(real)), table.rank(real, "data-free")) == ("1", None)
    assert "data-free" in [badge.text for badge in made.badges]
    assert "data-free" not in [badge.text for badge in real.badges]


def test_low_rank_rows_have_no_rank_among_quantised_ones_whatever_their_widths():
    specs = {"minmax": ("W8A8", 80.0), "omse": ("W8A8+lowrank40", 90.0), "ema": ("W32A32+lowrank40", 91.0)}
    table = only_table(make_record(make_cell(method=m, bits=b), score=s) for m, (b, s) in specs.items())
    assert [str(table.rank(row)) for row in table.quantised] == ["1", "1", "1"]
    assert [str(bits) for bits in table.bit_specs] == ["W8A8", "W32A32+lowrank40", "W8A8+lowrank40"]
    assert [row.cell.method for row in table.dense] == ["minmax"]
    assert table.bits_text(table.bit_specs[1]) == "W32A32+lowrank40, low rank: 40 % fewer parameters"


def test_low_rank_rows_of_one_spec_have_ranks_among_themselves():
    scores = {"omse": 90.0, "ema": 80.0}
    table = only_table(make_record(make_cell(method=m, bits="W32A32+lowrank40"), score=s) for m, s in scores.items())
    assert [str(table.rank(row)) for row in table.low_rank] == ["1", "2"]


def test_a_row_with_an_audit_violation_has_no_rank():
    table = only_table([make_record(violations=("float linear",))])
    assert table.rank(table.quantised[0]) is None


def test_nothing_is_ranked_without_evidence():
    table = Board.from_records([make_record()], make_cards()).tables[0]
    assert table.rank(table.quantised[0]) is None
    assert table.winners(W4A4) == ()


def test_bits_name_the_share_of_macs_only_where_much_stays_float():
    detector, classifier = make_record(make_cell(method="omse")), make_record()
    audit = detector.audit.model_copy(update={"quantised_macs": round(0.174 * detector.audit.macs)})
    table = only_table([detector.model_copy(update={"audit": audit})])
    assert table.bits_text(W4A4) == "W4A4 on 17.4 % of MACs" == table.rows[0].widths
    assert only_table([classifier]).bits_text(W4A4) == "W4A4"


def test_the_float_model_is_not_quantised_whatever_its_audit_counted():
    float_record = make_record(make_cell(method="float", bits="W32A32"))
    audit = float_record.audit.model_copy(update={"quantised_macs": float_record.audit.macs})
    (row,) = only_table([float_record.model_copy(update={"audit": audit})]).rows
    assert (row.quantised_share, row.widths) == (None, "not quantised")


def test_what_was_never_run_is_told_from_what_does_not_count():
    table = only_table([make_record(), make_record(make_cell(method="omse", bits="W8A8"), failure="raised")])
    assert (table.absence(W8A8), table.absence(BitSpec(3, 3))) == ("none counts", "not run")
    assert (table.absence(W8A8, "omse"), table.absence(W8A8, "minmax")) == ("none counts", "not run")


def test_another_metric_ranks_where_it_is_asked_for():
    records = [*make_detection_records(), *make_detection_records(method="omse")[1:]]
    mask_first = [r.model_copy(update={"scores": r.scores | {"mask_ap": 39.0}}) if r.cell.method == "omse" else
                  r.model_copy(update={"scores": r.scores | {"box_ap": 43.0}}) if r.cell.method == "minmax" else r
                  for r in records]  # fmt: skip
    boxes, masks = (Board.from_records(mask_first, make_cards(), metric=name).tables[0] for name in ("", "mask_ap"))
    assert [row.cell.method for row in boxes.quantised] == ["minmax", "omse"]
    assert [row.cell.method for row in masks.quantised] == ["omse", "minmax"]
    assert row_of(masks, method="omse").drop == pytest.approx(39.0 - 41.6)
    assert [metric.name for metric in masks.secondary] == ["box_ap"]
    with pytest.raises(UnknownName, match="unknown metric in these results"):
        Board.from_records(mask_first, make_cards(), metric="mask")


def test_rows_of_allotted_widths_are_compared_at_the_same_average_alone():
    mixed = BitSpec(4, 4, mixed=True)
    records = [
        make_record(make_cell(method=m, bits=b), score=s)
        for m, b, s in (("omse", "W4A4", 90.0), ("omse", "W4A4+mixed", 85.0), ("minmax", "W4A4+mixed", 80.0))
    ]
    table = only_table(records)
    assert [row.score for row in table.at(mixed)] == [85.0, 80.0]
    assert [row.cell.method for row in table.winners(mixed)] == ["omse"]
    assert [row.score for row in table.winners(W4A4)] == [90.0]
    assert table.bit_specs == (W4A4, mixed)


def test_rows_with_float_side_branches_have_ranks_among_themselves_alone():
    scores = {"minmax": ("W4A4", 80.0), "omse": ("W4A4+branch", 90.0), "ema": ("W4A4+branch", 85.0)}
    table = only_table(make_record(make_cell(method=m, bits=b), score=s) for m, (b, s) in scores.items())
    assert [str(bits) for bits in table.bit_specs] == ["W4A4", "W4A4+branch"]
    assert [len(table.at(bits)) for bits in table.bit_specs] == [1, 2]
    assert [row.cell.method for row in table.dense] == ["minmax"]
    assert table.bits_text(table.bit_specs[1]).startswith("W4A4+branch, with float side branches")
