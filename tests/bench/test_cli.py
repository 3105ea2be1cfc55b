"""The command line: help, errors in one line, plans and exports."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.bench.conftest import SUITE
from vitptq.bench import registry
from vitptq.bench.cli import app
from vitptq.bench.results.cell import Cell
from vitptq.bench.run.cell_run import Run, run_cell

TINY = ["--adapter", str(Path(__file__).parent / "tiny_task.py")]


def vitptq(*arguments: str, code: int = 0) -> str:
    with registry.temporary():
        result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_version_is_printed() -> None:
    assert vitptq("--version").startswith("vitptq")


def test_help_summarises_every_command_whole() -> None:
    words = " ".join(vitptq("--help").split())
    assert "the same command goes on where it was." in words
    assert "..." not in words.partition("Commands")[2]


def test_plan_estimates_where_nothing_was_measured(tmp_path: Path) -> None:
    text = vitptq("plan", "imagenet", "--results", str(tmp_path))
    assert "by rough figures" in text
    assert "remaining about 0:00:00" not in text


def test_help_names_every_command() -> None:
    text = vitptq("--help")
    for name in ("doctor", "list", "plan", "run", "status", "check", "verify", "board", "site", "data", "claims"):
        assert name in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "quik"], 'unknown suite "quik"'),
        (["run", "quick", "--only", "metod=x"], 'did you mean "method"'),
        (["check", "minmaxx"], 'did you mean "minmax"'),
        (["check", "nowhere.py"], "does not exist"),
        (["run", "quick", "--device", "tpu"], 'unknown device "tpu"; known: auto, cpu, cuda, cuda:N'),
        (["data", "full", "--out", "x"], 'unknown generated edition "full"'),
        (["plan", "quick", "--only", "id="], "has an empty value"),
        (["plan", "quick", "--only", "model=mini_vit,"], "has an empty value"),
        (["plan", "quick", "--only", "bits=W9A9"], 'unknown bits in this suite "W9A9"'),
        (["site", "--out", "/dev/null/x", "--results", "nowhere"], "does not exist; name one with --results"),
        (["verify", "--results", "nowhere"], "does not exist; name one with --results"),
        (["board", "--results", "nowhere"], "does not exist; name one with --results"),
        (["compare", "minmax", "--results", "nowhere"], "does not exist; name one with --results"),
    ],
)
def test_bad_input_is_one_line_that_teaches(arguments: list[str], words: str, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path)] if arguments[0] in ("plan", "run") else []
    text = vitptq(*arguments, *results, code=2)
    assert words in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"title = ", "is not valid TOML"),
        (SUITE.encode() + b"parameters = { weight_rate = nan }", "weight_rate = nan is no finite number"),
        (SUITE.encode() + b"seeds = [-1]", "seeds.0"),
        (SUITE.replace("W4A4", "W9A9").encode(), "9 bits for weights"),
    ],
)
def test_suite_that_cannot_be_read_is_one_sentence(tmp_path: Path, body: bytes, words: str) -> None:
    (tmp_path / "a suite.toml").write_bytes(body)
    assert words in vitptq("plan", str(tmp_path / "a suite.toml"), "--results", str(tmp_path), *TINY, code=2)


def test_bits_are_read_in_any_case(suite: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.replace("W4A4", "w4a4"))
    text = vitptq("plan", str(suite), "--only", "bits=w4A4", "--results", str(tmp_path), *TINY)
    assert "W4A4" in text
    assert "w4a4" not in text


def test_record_of_a_newer_version_stops_nothing_and_is_left_alone(run: Run, cells: list[Cell], suite: Path) -> None:
    run_cell(cells[1], run)
    newer = run.store.records_dir / f"{cells[2].id}.json"
    newer.write_text('{"schema_version": 99}')
    results = ["--results", str(run.store.root)]
    for command in (["status", str(suite)], ["board"], ["compare", "minmax"]):
        text = vitptq(*command, *results, *TINY, code=1)
        assert "update vitptq" in text
        assert "delete" not in text
    assert "update vitptq" in vitptq("plan", str(suite), *results, *TINY)
    assert newer.read_text() == '{"schema_version": 99}'


def test_good_site_is_not_replaced_by_an_empty_one(run: Run, cells: list[Cell], tmp_path: Path) -> None:
    record = run_cell(cells[0], run)
    assert record is not None
    site = ["site", "--results", str(run.store.root), "--out", str(tmp_path / "site"), *TINY]
    vitptq(*site)
    before = sorted(tmp_path.glob("site/**/*"))
    (run.store.records_dir / f"{record.id}.json").write_text("{")
    assert "there is no board" in vitptq(*site, code=2)
    assert sorted(tmp_path.glob("site/**/*")) == before


def test_results_that_are_a_file_stop_a_run_before_it_measures(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    text = vitptq("run", str(suite), "--results", str(tmp_path / "results"), *TINY, code=2)
    assert "name another with --results" in text


def test_plan_shows_what_is_done(run: Run, cells: list[Cell], suite: Path) -> None:
    run_cell(cells[1], run)
    text = vitptq("plan", str(suite), "--results", str(run.store.root), *TINY)
    assert sum(line.startswith("done ") for line in text.splitlines()) == 2  # the cell and its float cell
    assert "5 cells, 2 done" in text


def test_method_from_a_file_replaces_the_suites(suite: Path, tmp_path: Path) -> None:
    source = (Path(__file__).parents[2] / "methods" / "minmax.py").read_text()
    (tmp_path / "mine.py").write_text(source.replace('name = "minmax"', 'name = "mine"'))
    text = vitptq("plan", str(suite), "--method", str(tmp_path / "mine.py"), "--results", str(tmp_path), *TINY)
    assert "vit mine W4A4" in text
    assert "repq" not in text


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


def test_board_ranks_by_the_metric_that_is_asked_for(run: Run, cells: list[Cell]) -> None:
    run_cell(cells[1], run)
    results = ["--results", str(run.store.root), *TINY]
    assert "Top-1 accuracy" in vitptq("board", "--metric", "top1", *results)
    assert 'did you mean "top1"' in vitptq("board", "--metric", "top", *results, code=2)


def test_board_says_how_many_records_have_no_usable_evidence(run: Run, cells: list[Cell]) -> None:
    record = run_cell(cells[1], run)
    assert record is not None and record.evidence is not None
    (run.store.evidence_dir / record.evidence.file).unlink()
    assert "1 records are not compared" in vitptq("board", "--results", str(run.store.root), *TINY)


def test_site_is_built_from_records(run: Run, cells: list[Cell], tmp_path: Path) -> None:
    run_cell(cells[1], run)
    text = vitptq("site", "--results", str(run.store.root), "--out", str(tmp_path / "site"), *TINY)
    page = Path(text.removeprefix("leaderboard: ").strip())
    assert page.name == "index.html"
    assert "MinMax" in page.read_text()


def test_data_is_generated_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_DATA", "replaced by the command")
    text = vitptq("data", "mini", "--out", str(tmp_path))
    assert str(tmp_path) in text
    assert len(list(tmp_path.glob("mini/classification-*/val/*/*.JPEG"))) == 3000
    assert len(list(tmp_path.glob("mini/scenes-*/coco/val2017/*.jpg"))) == 500
    assert len(list(tmp_path.glob("mini/scenes-*/ADEChallengeData2016/annotations/validation/*.png"))) == 500


def test_lists() -> None:
    assert "repq-vit" in vitptq("list", "methods")
    assert "imagenet/mini" in vitptq("list", "tasks")
    assert "quick" in vitptq("list", "suites")
    assert "vit_small_patch16_224.augreg_in21k_ft_in1k" in vitptq("list", "models")


def test_doctor_reports_versions_and_every_model(tmp_path: Path) -> None:
    text = vitptq("doctor", "imagenet", "--results", str(tmp_path), code=1)
    assert "version of torch" in text
    assert text.count("ImageNet is needed: download") == 1
    assert text.splitlines()[-1] == "ready: imagenet/mini; not ready: imagenet/full"
    assert "ready: imagenet/mini" in vitptq("doctor", "imagenet/mini", "--results", str(tmp_path))
