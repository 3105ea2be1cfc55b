"""Completion of suites, methods and filters."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench import completion


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_CACHE", str(tmp_path))


def test_suites_and_methods_are_completed_by_their_beginning() -> None:
    assert completion.suite("qui") == ["quick"]
    assert "minmax" in completion.method("min")
    assert completion.method("nothing of this name") == []


def test_filters_are_completed_by_key_then_by_name() -> None:
    assert completion.only("me") == ["method="]
    assert "method=repq-vit" in completion.only("method=re")
    assert "model=mini_vit" in completion.only("model=mini_v")
    assert completion.only("seed=") == []
