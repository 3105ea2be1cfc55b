"""Forged and broken records and evidence: each is named in one sentence, and the rest goes on."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.bench.tiny_results import measured_pair
from tests.reliability.forgeries import FORGERIES, Case
from vitptq.bench import registry
from vitptq.bench.results.cell import canonical_json, sha256
from vitptq.bench.results.record_checks import date_problems
from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure a float cell and a quantised one."""
    return measured_pair(tmp_path_factory.mktemp("honest"))


def case_of(honest: Path, folder: Path) -> Case:
    shutil.copytree(honest, folder)
    (content,) = (c for c in map(json.loads, (p.read_text() for p in folder.glob("records/*.json")))
                  if c["cell"]["method"] == "minmax")  # fmt: skip
    return Case(folder, content)


def problems(folder: Path) -> list[str]:
    store = Store(folder)
    records, unreadable = store.all()
    assert records, "the honest float record stays readable"
    return [*unreadable, *(problem for verdict in verify(store, records) for problem in verdict.problems)]


def test_honest_records_hold(tiny: None, honest: Path) -> None:
    assert problems(honest) == []


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery_is_named_in_one_sentence(tiny: None, honest: Path, tmp_path: Path, name: str) -> None:
    case = case_of(honest, tmp_path / "forged")
    FORGERIES[name].spoil(case)
    found = problems(case.root)
    assert any(FORGERIES[name].words in problem for problem in found), found
    for problem in found:
        assert "\n" not in problem
        assert len(problem) < 1500
        assert "delete" not in problem


def copied_to_another_seed(case: Case) -> None:
    """Give the results of seed 0 out for seed 1 as well, with the published list of that seed."""
    task = registry.task("tiny", "test")
    listed = sha256(canonical_json(list(task.calibration_names(32, 1))).encode())
    evidence = case.evidence_path.read_bytes()
    honest = case.path.read_bytes()
    before = case.path
    old = case.evidence_path
    case.rename(seed=1, calibration_list=listed)
    before.write_bytes(honest)
    old.write_bytes(evidence)


def test_same_evidence_under_another_seed_is_named(
    tiny: None, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitptq.bench.results.verify.FEW_IMAGES", 1)
    case = case_of(honest, tmp_path / "forged")
    copied_to_another_seed(case)
    (problem,) = problems(case.root)
    assert "the evidence is the same as that of seed" in problem


def test_same_evidence_is_nothing_special_for_a_method_that_draws_nothing(
    tiny: None, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitptq.bench.results.verify.FEW_IMAGES", 1)
    monkeypatch.setattr(registry.method("minmax"), "seeded", False)
    case = case_of(honest, tmp_path / "forged")
    copied_to_another_seed(case)
    assert problems(case.root) == []


def test_labels_of_other_data_are_compared_with_the_tasks_own(
    tiny: None, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(registry.task("tiny", "test")), "own_truth", lambda self: "other labels")
    found = problems(honest)
    assert len(found) == 2
    assert all("are not those of data tiny-1, which the task evaluates on" in problem for problem in found)


def test_error_in_a_tasks_own_code_is_one_sentence(
    tiny: None, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, evidence: object) -> dict[str, float]:
        raise IndexError("list index out of range")

    monkeypatch.setattr(type(registry.task("tiny", "test")), "score", broken)
    assert "scores cannot be checked (IndexError: list index out of range)" in problems(honest)


def test_a_record_is_no_older_than_the_project_and_not_from_the_future(tiny: None, honest: Path) -> None:
    record = Store(honest).readable()[0]
    assert not list(date_problems(record))
    found = list(date_problems(record, now=datetime(2026, 11, 22, tzinfo=UTC)))
    assert len(found) == 2
    assert all("which is in the future" in problem for problem in found)


def test_float_models_evidence_under_few_bits_is_named(
    tiny: None, honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitptq.bench.results.verify.FEW_IMAGES", 1)
    case = case_of(honest, tmp_path / "forged")
    case.content["scores"] = {"top1": 100.0}
    case.replace_evidence((case.root / "evidence" / f"{case.content['gate']['float_cell']}.npz").read_bytes())
    (problem,) = problems(case.root)
    assert "the evidence is that of the float model" in problem
