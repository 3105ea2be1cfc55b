"""The nightly run and the comparison of two results folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.commands.command_line import TINY, vitptq

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


def test_nights_measure_what_is_due_and_name_a_planted_regression_first(night: list[str], tmp_path: Path) -> None:
    first = vitptq(*night, *planted(tmp_path))
    assert "3 missing, 0 stale, 0 another draw of 3 due" in first  # the float model is one
    again = vitptq(*night, *planted(tmp_path))
    assert "0 missing, 0 stale, 0 another draw of 0 due" in again
    assert "0 regressions, 0 changes, 0 unchanged" in again
    worse = vitptq(*night, *planted(tmp_path, WORSE), "--notify", "true", code=1)
    assert "0 missing, 1 stale, 0 another draw of 1 due" in worse
    report = sorted((tmp_path / "results" / "nights").glob("*.md"))[-1].read_text(encoding="utf-8")
    assert "1 regression" in report
    rows = [line for line in report.splitlines() if line.startswith("| ")]
    assert "score moved" in rows[1]
    assert "time moved" in rows[1]
    assert "planted" in rows[1]


def test_folders_are_compared(night: list[str], tmp_path: Path) -> None:
    vitptq(*night, "--only", "method=minmax", *planted(tmp_path))
    text = vitptq("diff", str(tmp_path / "results"), str(tmp_path / "results"), *TINY)
    assert text == "0 regressions, 0 changes, 2 unchanged\n"


@pytest.mark.parametrize(("budget", "words"), [("soon", "write for example 6h"), ("", "write for example 6h")])
def test_budget_that_is_no_time_is_one_sentence(night: list[str], budget: str, words: str) -> None:
    assert words in vitptq(*night[:-1], budget, code=2)
