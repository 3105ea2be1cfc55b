"""What the harness adds to a cell: processor time that is neither quantising nor evaluating, audits apart.

    python -m tests.benchmarks.overhead --model mini_vit --method minmax --cells 6

Runs cells of the embedded edition in one worker, as a run does, and takes for each part the least time of all cells:
other work on the machine only adds. The figures are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from vitptq.bench import registry
from vitptq.bench.results import suites
from vitptq.bench.run import cell_run
from vitptq.bench.run.evaluation_audit import EvaluationAudit
from vitptq.bench.run.first_batch import FirstBatch
from vitptq.bench.run.worker import Orders, Worker

WHOLE, QUANTISE, EVALUATE, AUDITS = "whole cell", "quantise", "evaluate", "audits"


def main() -> None:
    """Measure and print one table row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini_vit")
    parser.add_argument("--method", default="minmax")
    parser.add_argument("--cells", type=int, default=6)
    asked = parser.parse_args()
    parts = measured(asked.model, asked.method, asked.cells)
    rest = parts[WHOLE] - parts[QUANTISE] - parts[EVALUATE] - parts[AUDITS]
    for name, seconds in (*parts.items(), ("the rest of the harness", rest)):
        print(f"{name:<24} {1000 * seconds:8.1f} ms  {100 * seconds / parts[WHOLE]:6.2f} %")


def measured(model: str, method: str, count: int) -> dict[str, float]:
    """Return the seconds of each part of a cell, the least of `count` cells; the first one warms up."""
    task = registry.task("imagenet", "mini")
    group = suites.Group(task="imagenet", edition="mini", models=[model], methods=[method], bits=["W4A4"])
    reference, cell = suites.expand(group)
    spent: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name, timed(task, spent):
        worker = Worker(orders(Path(name)))
        worker.work(reference)
        for i in range(count + 1):
            spent.clear() if i == 1 else None
            with clocked(spent, WHOLE):
                worker.work(cell.model_copy(update={"track": f"draw {i}"}))  # another cell that does the same
    return {part: min(sums(spent[part], count)) for part in (WHOLE, QUANTISE, EVALUATE, AUDITS)}


def sums(seconds: list[float], cells: int) -> Iterator[float]:
    """Yield what a part took in each cell, of times that come in equal numbers per cell."""
    each = len(seconds) // cells
    for i in range(cells):
        yield sum(seconds[i * each : (i + 1) * each])


def orders(folder: Path) -> Orders:
    """Return what a run on one core of this machine tells its worker."""
    return Orders(
        folder / "results", folder, (torch.device("cpu"),), 1, (), False, False, "vitptq run mini", "overhead",
        os.getpid(),
    )  # fmt: skip


@contextmanager
def clocked(spent: dict[str, list[float]], part: str) -> Iterator[None]:
    """Add the processor time that passes inside."""
    start = time.process_time()
    yield
    spent[part].append(time.process_time() - start)


@contextmanager
def timed(task: Any, spent: dict[str, list[float]]) -> Iterator[None]:
    """Take the time of quantising, of evaluating and of the audits, the watch over the first batch among these."""

    def within(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed_function(*args: Any, **options: Any) -> Any:
            with clocked(spent, part):
                return function(*args, **options)

        return timed_function

    with (
        patch.object(cell_run, "quantise", within(QUANTISE, cell_run.quantise)),
        patch.object(type(task), "evaluate", within(EVALUATE, type(task).evaluate)),
        patch.object(EvaluationAudit, "__init__", within(AUDITS, EvaluationAudit.__init__)),
        patch.object(EvaluationAudit, "before", within(AUDITS, EvaluationAudit.before)),
        patch.object(EvaluationAudit, "after", within(AUDITS, EvaluationAudit.after)),
        patch.object(FirstBatch, "put_out", within(AUDITS, FirstBatch.put_out)),
        patch.object(FirstBatch, "add", within(AUDITS, FirstBatch.add)),
    ):
        yield


if __name__ == "__main__":
    main()
