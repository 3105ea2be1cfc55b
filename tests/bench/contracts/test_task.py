"""What a task declares of its scores."""

from __future__ import annotations

import pytest

from tests.bench.tiny_task import TinyTask
from vitptq.bench import registry
from vitptq.bench.contracts.task import Metric, ranking

TASKS = registry.tasks()


def test_the_marked_metric_ranks_and_without_a_mark_the_first() -> None:
    first, second = Metric("a", "A"), Metric("b", "B")
    assert ranking([first, second]) is first
    assert ranking([first, marked := Metric("c", "C", ranks=True)]) is marked
    assert TinyTask().ranking_metric.name == "top1"


@pytest.mark.parametrize("key", TASKS, ids="/".join)
def test_a_task_of_this_project_ranks_by_one_score_that_its_models_have_a_reference_for(key: tuple[str, str]) -> None:
    task = TASKS[key]
    names = [metric.name for metric in task.metrics]
    assert len(set(names)) == len(names)
    assert [metric.ranks for metric in task.metrics] == [True] + [False] * (len(names) - 1)
    assert all(task.metrics[0].name in card.reference for card in task.models().values())
