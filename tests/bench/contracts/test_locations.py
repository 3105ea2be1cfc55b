"""Where data sets and checkpoints are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench.contracts.locations import STARTED_IN, checkpoint_root, data_root


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VITPTQ_DATA", raising=False)
    monkeypatch.delenv("VITPTQ_CHECKPOINTS", raising=False)
    assert (data_root(), checkpoint_root()) == (STARTED_IN / "data", STARTED_IN / "data" / "checkpoints")
    monkeypatch.setenv("VITPTQ_DATA", str(tmp_path))
    assert checkpoint_root() == tmp_path / "checkpoints"
    monkeypatch.setenv("VITPTQ_CHECKPOINTS", str(tmp_path / "weights"))
    assert checkpoint_root() == tmp_path / "weights"


def test_relative_folder_stays_where_the_process_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VITPTQ_DATA", "elsewhere")
    monkeypatch.delenv("VITPTQ_CHECKPOINTS", raising=False)
    before = data_root(), checkpoint_root()
    monkeypatch.chdir(tmp_path)
    assert (data_root(), checkpoint_root()) == before
    assert data_root().is_absolute()
