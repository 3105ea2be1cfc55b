"""Pages of runs."""

from tests.bench.record_factory import (
    make_cards,
    make_cell,
    make_record,
)
from tests.bench.site_reader import build_site, row_named
from vitptq.bench.board.board import Board
from vitptq.bench.website.paths import run_path


def test_a_run_page_tells_everything_about_its_run(board, site):
    row = row_named(board, model="vit_mini", method="repq_vit", bits="W4A4")
    text = site[run_path(row)].text

    for record in row.records:
        assert f"{record.scores['top1']:.2f}" in text
        assert record.id in text
        assert record.evidence.sha256 in text
    for part in ("blocks.3.attn.mix", "15 of 16", "LogSqrt2", row.records[0].provenance.commit, "torch 2.11.0"):
        assert part in text
    assert row.records[0].details.repetition.command in text
    assert f"{row.interval.low:.2f} to {row.interval.high:.2f}" in text


def test_a_run_page_tells_run_time_settings_and_details_by_their_names(tmp_path):
    details = {
        "task": {"batch_size": 27},
        "repetition": {"calibration_images": "c0ffee"},
        "method": {"figures": {"generation_s": 1.75}, "images": {"drawn": {"file": "f", "sha256": "5ad", "bytes": 1}}},
    }
    record = make_record(make_cell(run_time={"memory_mb": 4097}), details=details)
    board = Board.from_records([record], make_cards())
    text = build_site(board, tmp_path / "site")[run_path(board.tables[0].rows[0])].text
    for part in (
        "memory_mb4097 (a run-time setting)",
        "batch_size27",
        "hashc0ffee",
        "generation_s1.75",
        "drawnf, sha256 5ad",
    ):
        assert part in text


def test_operands_that_stayed_float_are_named(board, site):
    text = site[run_path(row_named(board, method="ema", bits="W4A4"))].text

    assert "Left in float: head.input, head.weight" in " ".join(text.split())
