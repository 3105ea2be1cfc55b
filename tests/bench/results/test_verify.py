"""Forged and broken records and evidence: each is named in one sentence, and the rest goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.bench.conftest import TINY
from tests.reliability.forgeries import FORGERIES, Case
from vitptq.bench import registry
from vitptq.bench.results import suites
from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify
from vitptq.bench.run.cell_run import Run, run_cell


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure a float cell and a quantised one."""
    import torch

    results = tmp_path_factory.mktemp("honest")
    with registry.temporary():
        registry.add_file(TINY)
        group = suites.Group(task="tiny", edition="test", models=["vit"], methods=["minmax"], bits=["W4A4"])
        for cell in suites.expand(group):
            run_cell(cell, Run(Store(results), torch.device("cpu"), lambda step, done, total: None))
    return results


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
