"""A stranger's folder of records: taken as it should be, refused for each thing that should not be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.tiny_results import measured_pair
from vitptq.bench.results import submission
from vitptq.bench.results.store import Store

HEAD = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure a float cell and a quantised one, as from a clean clone."""
    results = measured_pair(tmp_path_factory.mktemp("measured"))
    for path in results.glob("records/*.json"):
        change(path, provenance={"commit": HEAD, "dirty": False, "outside": []})
    for path in (*results.glob(".*"), *results.glob("*/.*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return results


def change(path: Path, **parts: dict[str, Any]) -> None:
    content = json.loads(path.read_text())
    for name, values in parts.items():
        content[name] |= values
    path.write_text(json.dumps(content))


@pytest.fixture
def folder(tiny: None, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(submission, "known_commit", lambda commit: commit == HEAD)
    return Path(shutil.copytree(measured, tmp_path / "sent"))


def reasons(folder: Path) -> list[str]:
    return list(submission.problems(folder, Store(folder.parent / "committed")))


def quantised(folder: Path) -> Path:
    (path,) = (p for p in folder.glob("records/*.json") if '"method":"minmax"' in p.read_text().replace(" ", ""))
    return path


def evidence(folder: Path) -> Path:
    return folder / "evidence" / f"{quantised(folder).stem}.npz"


def test_honest_folder_is_taken(folder: Path) -> None:
    assert reasons(folder) == []


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a dirty clone": (lambda f: change(quantised(f), provenance={"dirty": True}), "had uncommitted changes"),
    "no commit": (lambda f: change(quantised(f), provenance={"commit": "unknown"}), "commit is not known"),
    "a foreign commit": (lambda f: change(quantised(f), provenance={"commit": "f" * 40}), "not in the history"),
    "an outside adapter": (
        lambda f: change(quantised(f), provenance={"outside": ["method mine"]}),
        "code from outside the clone: method mine",
    ),
    "another score": (lambda f: change(quantised(f), scores={"top1": 99.0}), "the evidence gives"),
    "a shut gate": (
        lambda f: change(quantised(f), gate={"passed": False, "reason": "too low"}),
        "its float gate is shut (too low)",
    ),
    "a broken record": (lambda f: quantised(f).write_text("{"), "is not JSON"),
    "an unknown key": (lambda f: change(quantised(f), provenance={"mood": "good"}), "does not fit the schema"),
    "missing evidence": (lambda f: evidence(f).unlink(), "is missing"),
    "changed evidence": (lambda f: evidence(f).write_bytes(b"x" * evidence(f).stat().st_size), "has sha256"),
    "evidence of nothing": (
        lambda f: (f / "evidence" / f"{'a' * 64}.npz").write_bytes(b""),
        "belongs to no record here",
    ),
    "another file": (lambda f: (f / "notes.txt").write_text("hello"), "notes.txt does not belong here"),
    "another folder": (lambda f: (f / "claims").mkdir(), "does not belong here"),
    "a file of another name": (lambda f: (f / "records" / "a.json").write_text("{}"), "records/a.json does not belong"),
    "a link": (
        lambda f: (evidence(f).rename(f.parent / "real"), evidence(f).symlink_to(f.parent / "real")),
        "is no regular file",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_folder_is_refused_in_one_line_for(what: str, folder: Path) -> None:
    spoil, said = REFUSED[what]
    spoil(folder)
    found = reasons(folder)
    assert any(said in reason for reason in found), found
    assert not [reason for reason in found if "\n" in reason]


def test_giant_is_refused_unread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(submission.LARGEST, "evidence", 10)
    (first, *_) = reasons(folder)
    assert "at most 10 are taken" in first


def test_method_that_changed_since_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "source_hash", lambda method: "another")
    assert any("measure it again at this commit" in reason for reason in reasons(folder))


def test_cell_that_is_committed_already_is_refused(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "committed")
    (reason,) = reasons(folder)
    assert "has a committed record already" in reason


def test_commit_of_this_history_is_known_and_another_is_not() -> None:
    assert not submission.known_commit("f" * 40)
    assert not submission.known_commit("--help")
