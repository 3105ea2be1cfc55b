"""What OLD and NEW of `vitptq diff` mean."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.bench.record_factory import make_cell, make_provenance, make_record
from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.nightly import states
from vitptq.bench.nightly.states import state_of
from vitptq.bench.results.store import Store


def add(folder: Path, commit: str, day: int, **cell) -> str:
    moment = f"2026-12-{day:02}T00:00:00Z"
    record = make_record(make_cell(**cell), provenance=make_provenance(commit=commit, started=moment, finished=moment))
    Store(folder).add(record)
    return record.id


def test_results_folder_is_its_newest_records(tmp_path):
    add(tmp_path, "a" * 40, 1, seed=0)
    newer = add(tmp_path, "b" * 40, 2, seed=0, data="newer")
    assert [each.id for each in state_of(str(tmp_path), tmp_path).newest] == [newer]


def test_commit_that_git_does_not_know_is_its_own_records(tmp_path):
    one = add(tmp_path, "abcd" + "0" * 36, 1)
    add(tmp_path, "b" * 40, 2, seed=1)
    assert [each.id for each in state_of("abcd", tmp_path).newest] == [one]


def test_commit_has_the_records_of_its_ancestors(tmp_path, monkeypatch):
    clone, results = tmp_path / "clone", tmp_path / "results"
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(clone)], check=True)
    for number in range(3):
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", str(number)], check=True)
    log = subprocess.run([*git, "rev-list", "--reverse", "HEAD"], check=True, capture_output=True, text=True)
    commits = log.stdout.split()
    monkeypatch.setattr(states, "ROOT", clone)
    ids = [add(results, commit, day + 1, seed=day) for day, commit in enumerate(commits)]
    assert {each.id for each in state_of("HEAD~1", results).newest} == set(ids[:2])
    assert {each.id for each in state_of(commits[2][:9], results).newest} == set(ids)


@pytest.mark.parametrize(
    "name", ["", "nowhere", "../x", "-h", "--help", "a\0b", "abc", "f" * 40, "x" * 5000, "HEAD^{tree}"]
)
def test_name_that_is_neither_is_one_sentence_with_the_known_commits(tmp_path, name):
    add(tmp_path, "abcdef0" + "0" * 33, 1)
    with pytest.raises(BadInput, match="is neither a results folder nor a commit .* commits there: abcdef0$"):
        state_of(name, tmp_path)


def test_commit_without_a_results_folder_says_what_to_name(tmp_path):
    with pytest.raises(Missing, match="name two folders, or the folder of the commits with --results"):
        state_of("abcdef0", tmp_path / "none")


def test_folder_without_records_says_so(tmp_path):
    with pytest.raises(Missing, match="holds no record"):
        state_of(str(tmp_path), tmp_path)


def test_folder_of_broken_records_is_no_state(tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "x.json").write_text("{")
    with pytest.raises(BadInput, match="none of the records in .* can be read"):
        state_of(str(tmp_path), tmp_path)
