"""The nightly run and the comparison of two results folders."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bench.commands.command_line import TINY, vitptq
from tests.bench.record_factory import make_cell, make_provenance, make_record
from vitptq.bench import registry
from vitptq.bench.nightly.night import Night
from vitptq.bench.results import suites
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.store import Store

SUITE = """
title = "tiny nights"
[[cells]]
task = "tiny"
edition = "test"
models = ["vit"]
methods = ["minmax", "planted"]
bits = ["W8A8"]
"""
WORSE = """
        import time
        time.sleep(2.5)
        for parameter in quantised.parameters():
            parameter.data.neg_()
"""
FAILS = """
        raise RuntimeError("planted failure")
"""


def planted(folder: Path, extra: str = "") -> list[str]:
    """Write the adapter, perhaps with something in it that makes it worse."""
    source = (Path(__file__).parents[3] / "methods" / "minmax.py").read_text()
    source = source.replace('name = "minmax"', 'name = "planted"').replace(
        "return net.switch", "quantised = net.switch"
    )
    (folder / "planted.py").write_text(f"{source}{extra}        return quantised\n")
    return [*TINY, "--adapter", str(folder / "planted.py")]


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "nights.toml").write_text(SUITE)
    folders = ["--suite", str(tmp_path / "nights.toml"), "--results", str(tmp_path / "results")]
    return ["nightly", *folders, "--budget", "5m"]


def test_nights_measure_what_is_due_and_name_what_became_worse_first(night: list[str], tmp_path: Path) -> None:
    first = vitptq(*night, *planted(tmp_path))
    assert "3 missing, 0 stale, 0 another draw of 3 due" in first  # the float model is one
    again = vitptq(*night, *planted(tmp_path), "--notify", hook(tmp_path))
    assert "0 missing, 0 stale, 0 another draw of 0 due" in again
    assert "0 regressions, 0 changes, 0 unchanged" in again
    assert (tmp_path / "told").read_text().startswith("Nothing became worse|0|")
    worse = vitptq(*night, *planted(tmp_path, WORSE), code=1)
    assert "0 missing, 1 stale, 0 another draw of 1 due" in worse
    assert newest_report(tmp_path).splitlines()[0].startswith("# WORSE score moved, time moved: tiny/test vit planted")
    failed = vitptq(*night, *planted(tmp_path, FAILS), "--notify", hook(tmp_path), code=1)
    assert "WORSE fails now: tiny/test vit planted W8A8 32 images seed 0 (failed (raised): RuntimeError" in failed
    assert re.search(r"^FAILS since \w+( with changes)? \(\d{4}-\d\d-\d\d, worked at ", failed, re.MULTILINE)
    first_line, count, report = (tmp_path / "told").read_text().strip().split("|")
    assert (first_line[:16], count) == ("WORSE fails now:", "1")
    assert Path(report).read_text() == newest_report(tmp_path)
    assert "<!DOCTYPE html>" in Path(report).with_suffix(".html").read_text()
    still = vitptq(*night, *planted(tmp_path, FAILS))
    assert "0 regressions, 0 changes, 0 unchanged, 1 failing" in still


def test_night_that_was_killed_before_its_report_is_told_by_the_next(night: list[str], tmp_path: Path) -> None:
    float_model = [*night, "--only", "method=float", *planted(tmp_path)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Night, "finish", killed)
        vitptq(*float_model, code=9)
    text = vitptq(*float_model)
    assert "going on with the night that began at " in text
    assert "0 missing, 0 stale, 0 another draw of 0 due" in text
    assert "new: tiny/test vit float W32A32 seed 0" in text


def killed(*_: object) -> Path:
    raise SystemExit(9)


def test_night_beside_another_leaves_it_alone(night: list[str], tmp_path: Path) -> None:
    with Night(tmp_path / "results").alone():
        assert "this one leaves it alone" in vitptq(*night, *planted(tmp_path), code=3)


def test_record_that_cannot_be_read_is_named_and_the_night_goes_on(night: list[str], tmp_path: Path) -> None:
    with registry.temporary():
        registry.add_file(Path(TINY[1]))
        cell = suites.load(str(suite_of_float(tmp_path)))[0]
    broken = tmp_path / "results" / "records" / f"{cell.id}.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    text = vitptq(*night, "--only", "method=float", *planted(tmp_path))
    assert "0 missing, 0 stale, 0 another draw of 0 due" in text
    assert f"record {broken} is not JSON" in " ".join(text.split())


def suite_of_float(folder: Path) -> Path:
    path = folder / "float.toml"
    path.write_text(SUITE.replace('["minmax", "planted"]', '["float"]').replace("W8A8", "float"))
    return path


def newest_report(folder: Path) -> str:
    return sorted((folder / "results" / "nights").glob("*.md"))[-1].read_text(encoding="utf-8")


def hook(folder: Path) -> str:
    """Return a command that writes down what it is told."""
    told = '"$VITPTQ_FIRST_LINE|$VITPTQ_REGRESSIONS|$VITPTQ_REPORT"'
    script = folder / "hook.sh"
    script.write_text(f"#!/bin/sh\necho {told} > '{folder}/told'\n")
    return f"sh {script}"


@pytest.mark.parametrize(
    ("command", "words"), [("no-such-program x", "is no command here"), ("'open", "quote it as a shell would")]
)
def test_hook_that_cannot_run_is_told_before_the_night(night: list[str], tmp_path: Path, command, words) -> None:
    assert words in vitptq(*night, "--notify", command, *TINY, code=2)
    assert not (tmp_path / "results").exists()


def test_folders_are_compared(night: list[str], tmp_path: Path) -> None:
    vitptq(*night, "--only", "method=minmax", *planted(tmp_path))
    text = vitptq("diff", str(tmp_path / "results"), str(tmp_path / "results"), *TINY)
    assert text == "0 regressions, 0 changes, 2 unchanged\n"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("{results}", "nowhere"), "is neither a results folder nor a commit"),
        (("nowhere", "{results}"), "is neither a results folder nor a commit"),
        (("{results}", "{results}/records"), "holds no record"),
        (("{results}", "{results}/records/0.json"), "is no folder"),
    ],
)
def test_state_that_is_neither_folder_nor_commit_is_one_sentence(tmp_path: Path, names, words: str) -> None:
    results = tmp_path / "results"
    Store(results).add(make_record())
    (results / "records" / "0.json").write_text("{")
    named = [name.format(results=results) for name in names]
    text = vitptq("diff", *named, "--results", str(results), code=2)
    assert words in text
    assert "Traceback" not in text


def test_commit_without_records_to_look_in_is_one_sentence(tmp_path: Path) -> None:
    assert "name two folders" in vitptq("diff", "abcdef0", "1234567", "--results", str(tmp_path / "none"), code=2)


def test_commits_of_one_folder_are_compared(tmp_path: Path) -> None:
    for day, commit, changes in ((1, "a" * 40, {}), (2, "b" * 40, {"source": sha256(b"changed")})):
        moment = f"2026-12-0{day}T00:00:00Z"
        origin = make_provenance(commit=commit, started=moment, finished=moment)
        failure = {"failure": "raised"} if day == 2 else {}
        Store(tmp_path).add(make_record(make_cell(**changes), provenance=origin, **failure))
    text = vitptq("diff", "aaaa", "bbbb", "--results", str(tmp_path), code=1)
    assert text.startswith("WORSE fails now: classification/mini vit_mini minmax W4A4 32 images seed 0")
    assert "aaaaaaa to bbbbbbb" in text


@pytest.mark.parametrize(("budget", "words"), [("soon", "write for example 6h"), ("", "write for example 6h")])
def test_budget_that_is_no_time_is_one_sentence(night: list[str], budget: str, words: str) -> None:
    assert words in vitptq(*night[:-1], budget, code=2)
