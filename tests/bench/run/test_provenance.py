"""Where, when and by what something was measured."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
import torch

from tests.bench.record_factory import make_provenance
from vitptq.bench.results.cell import Cell
from vitptq.bench.run import provenance

CPU = torch.device("cpu")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a clone with one commit, in which provenance looks."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "code.py").write_text("x = 1\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "README.md").write_text("data\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def commit() -> tuple[str, bool | None]:
    provenance.commit.cache_clear()
    try:
        return provenance.commit()
    finally:
        provenance.commit.cache_clear()


def test_an_unchanged_clone_is_clean(clone: Path) -> None:
    head, dirty = commit()
    assert len(head) == 40
    assert dirty is False


def test_a_changed_or_a_new_file_of_code_makes_a_clone_dirty(clone: Path) -> None:
    (clone / "bench" / "new.py").write_text("")
    assert commit()[1] is True
    (clone / "bench" / "new.py").unlink()
    (clone / "bench" / "code.py").write_text("x = 2\n")
    assert commit()[1] is True


def test_what_a_run_writes_does_not_make_a_clone_dirty(clone: Path) -> None:
    (clone / "results" / "record.json").write_text("{}")
    (clone / "results" / "README.md").write_text("other data\n")
    assert commit()[1] is False


def test_outside_a_clone_the_commit_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert commit() == ("unknown", None)


def test_workers_give_the_command_that_a_person_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITPTQ_COMMAND", raising=False)
    monkeypatch.setattr(sys, "argv", ["/bin/vitptq", "run", "a suite.toml"])
    assert provenance.command() == "vitptq run 'a suite.toml'"
    monkeypatch.setenv("VITPTQ_COMMAND", "vitptq run mini")
    assert provenance.command() == "vitptq run mini"


def test_another_version_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    here = provenance.environment(CPU)
    other = provenance.versions() | {"timm": "0.0.1"}
    monkeypatch.setattr(provenance, "versions", lambda: other)
    assert provenance.environment(CPU) != here


def test_provenance_names_versions_device_and_times() -> None:
    found = provenance.collect(CPU, provenance.now())
    assert found.versions["torch"] == torch.__version__
    assert found.device.endswith("(CPU)")
    assert datetime.fromisoformat(found.started) <= datetime.fromisoformat(found.finished)


def test_next_second_is_later_than_whatever_has_finished() -> None:
    finished = provenance.now()
    assert provenance.next_second() > finished


def test_code_from_outside_the_clone_makes_no_official_record(
    cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: ("a" * 40, False))
    alone = provenance.collect(CPU, provenance.now())
    assert alone.official
    found = provenance.collect(CPU, provenance.now(), cell=cells[0])  # its task is in a file of the tests
    assert not found.official
    assert found.why_unofficial == "code from outside the clone: task tiny/test"


def test_clone_that_git_refuses_has_an_unknown_commit_and_says_why(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: str) -> str:
        raise subprocess.CalledProcessError(128, "git", stderr="fatal: detected dubious ownership in repository\nmore")

    monkeypatch.setattr(provenance, "_git", refuse)
    assert commit() == ("unknown", None)
    problem = provenance.commit_problem()
    assert "detected dubious ownership" in problem
    assert "not official" in problem
    assert "\n" not in problem


def test_outside_a_clone_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    commit()
    assert provenance.commit_problem() == ""


@pytest.mark.parametrize(
    ("changes", "official"),
    [({}, True), ({"dirty": True}, False), ({"dirty": None}, False), ({"commit": "unknown"}, False)],
)
def test_record_is_official_where_its_code_can_be_had_again(changes: dict[str, object], official: bool) -> None:
    assert make_provenance(**changes).official is official


def test_a_clock_that_is_put_back_makes_no_cell_end_before_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "now", lambda: "2026-11-25T00:00:00Z")
    assert provenance.collect(torch.device("cpu"), "2026-11-28T00:00:00Z").finished == "2026-11-28T00:00:00Z"
