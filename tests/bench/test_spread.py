"""Work in several processes."""

from __future__ import annotations

import gc
import os

import pytest

from vitptq.bench import spread as module
from vitptq.bench.spread import AtOnce, spread, without_collections


def test_results_come_in_the_order_of_the_things_and_from_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setattr(module, "FEWEST", 8)
    monkeypatch.setattr(module, "CHUNK", 5)
    found = list(spread(lambda number: (number, os.getpid()), range(32)).results())
    assert [number for number, _ in found] == list(range(32))
    assert os.getpid() not in {process for _, process in found}


def test_few_things_are_done_here() -> None:
    work = spread(lambda number: os.getpid(), range(3))
    assert isinstance(work, AtOnce)
    assert set(work.results()) == {os.getpid()}


def test_error_of_one_process_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setattr(module, "FEWEST", 8)
    with pytest.raises(ZeroDivisionError):
        list(spread(lambda number: 1 // (number - 20), range(32)).results())


def test_collections_go_on_behind_the_block() -> None:
    with without_collections():
        assert not gc.isenabled()
    assert gc.isenabled()
