"""A plan says how to run, and cannot be changed on the way to the workers."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from vitptq.bench.run.plan import Plan


def test_a_plan_reaches_another_process_as_it_is() -> None:
    plan = Plan(Path("results"), workers=3, executor="ray", address="head:6379")
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_a_plan_is_not_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        Plan(Path("results")).workers = 2  # type: ignore[misc]
