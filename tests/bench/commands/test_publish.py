"""Verification, tables and the website."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.commands.command_line import TINY, vitptq
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.store import Store
from vitptq.bench.run.cell_run import Run, run_cell


def test_good_site_is_not_replaced_by_an_empty_one(run: Run, cells: list[Cell], tmp_path: Path) -> None:
    record = run_cell(cells[0], run)
    assert record is not None
    site = ["site", "--results", str(run.store.root), "--out", str(tmp_path / "site"), *TINY]
    vitptq(*site)
    before = sorted(tmp_path.glob("site/**/*"))
    (run.store.records_dir / f"{record.id}.json").write_text("{")
    assert "there is no board" in vitptq(*site, code=2)
    assert sorted(tmp_path.glob("site/**/*")) == before


def test_verify_fails_where_evidence_is_gone(run: Run, cells: list[Cell]) -> None:
    record = run_cell(cells[0], run)
    assert record is not None and record.evidence is not None
    assert "1 scores recomputed, 0 problems" in vitptq("verify", "--results", str(run.store.root), *TINY)
    (run.store.evidence_dir / record.evidence.file).unlink()
    assert "is missing" in vitptq("verify", "--results", str(run.store.root), *TINY, code=1)


@pytest.mark.parametrize("format", ["table", "csv", "latex", "json", "markdown"])
def test_board_prints_every_format(run: Run, cells: list[Cell], format: str) -> None:
    run_cell(cells[1], run)
    assert "vit" in vitptq("board", "--format", format, "--results", str(run.store.root), *TINY)


def test_board_shows_only_what_is_asked_for(run: Run, cells: list[Cell]) -> None:
    eight, four = cells[1:3]
    for cell in (eight, four):
        run_cell(cell, run)
    results = ["--results", str(run.store.root), *TINY]
    whole, part = vitptq("board", *results), vitptq("board", "--only", f"bits={eight.bits}", *results)
    assert eight.bits in whole and four.bits in whole
    assert eight.bits in part and four.bits not in part
    assert "in these results" in vitptq("board", "--only", "bits=W2A2", *results, code=2)


def test_methods_are_compared_at_the_bits_that_are_asked_for(run: Run, cells: list[Cell]) -> None:
    eight, four = cells[1:3]
    for cell in (eight, four):
        run_cell(cell, run)
    part = vitptq("compare", eight.method, "--only", f"bits={eight.bits}", "--results", str(run.store.root), *TINY)
    assert eight.bits in part and four.bits not in part


def test_board_ranks_by_the_metric_that_is_asked_for(run: Run, cells: list[Cell]) -> None:
    run_cell(cells[1], run)
    results = ["--results", str(run.store.root), *TINY]
    assert "Top-1 accuracy" in vitptq("board", "--metric", "top1", *results)
    assert 'did you mean "top1"' in vitptq("board", "--metric", "top", *results, code=2)


def test_site_is_built_from_records(run: Run, cells: list[Cell], tmp_path: Path) -> None:
    run_cell(cells[1], run)
    text = vitptq("site", "--results", str(run.store.root), "--out", str(tmp_path / "site"), *TINY)
    page = Path(text.removeprefix("leaderboard: ").strip())
    assert page.name == "index.html"
    assert "MinMax" in page.read_text()


def test_table_of_a_paper_is_printed_with_its_bibliography(tmp_path: Path) -> None:
    bib = tmp_path / "refs.bib"
    text = vitptq("table", "--paper", "aphq-vit:table1", "--results", str(tmp_path / "none"), "--bib", str(bib))
    assert r"\textit{[65.05]}" in text
    assert "RepQ-ViT: Scale Reparameterization" in bib.read_text(encoding="utf-8")


def test_table_holds_the_chosen_bits(run: Run, cells: list[Cell]) -> None:
    for cell in cells:
        run_cell(cell, run)
    text = vitptq("table", "--results", str(run.store.root), "--bits", "W4A4", "--format", "markdown", *TINY)
    assert "W4A4" in text
    assert "W8A8" not in text


def test_site_of_two_folders_marks_what_was_measured_here(run: Run, cells: list[Cell], tmp_path: Path) -> None:
    for root, cell in ((run.store.root, cells[1]), (tmp_path / "local", cells[2])):
        run_cell(cell, replace(run, store=Store(root)))
    folders = ["--results", str(run.store.root), "--results", str(tmp_path / "local")]
    vitptq("site", *folders, "--out", str(tmp_path / "site"), *TINY)
    pages = [page.read_text() for page in (tmp_path / "site" / "runs").iterdir()]
    assert len(pages) == len({path.name for path in tmp_path.rglob("records/*.json")})
    assert all("here: not among the committed results" in page for page in pages)


def test_submission_with_another_file_is_refused_with_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    text = vitptq("verify", "--submission", str(tmp_path), "--results", str(tmp_path / "none"), code=1)
    assert "notes.txt does not belong here" in text
    assert "1 reasons to refuse it" in text
