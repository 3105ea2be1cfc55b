"""Run many cells: float cells first, those of a person's own method file apart from all others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from vitptq.bench import registry
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.store import Store
from vitptq.bench.results.suites import float_cell
from vitptq.bench.run.executors.local import LocalProcesses
from vitptq.bench.run.plan import Executor, OnRecord, OnSteps, Plan

BUSY_S = 1.0
"""How long to wait before asking again for a cell that another process is working on."""


def run_cells(cells: Sequence[Cell], plan: Plan, on_record: OnRecord, on_steps: OnSteps) -> None:
    """Measure every cell that has no record yet; float cells first, because the others need their gate.

    Returns when every cell has a record, also those that other processes work on in the same results folder, or when
    `plan.until` has come and what was begun is done.
    """
    plan = replace(plan, results=plan.results.absolute())
    Store(plan.results).sweep()
    asked = {cell.id for cell in cells}
    for adapters, group in _groups(cells, plan):
        _run_group(
            group,
            replace(plan, adapters=adapters),
            lambda cell, record: on_record(cell, record) if cell.id in asked else None,
            on_steps,
        )


def _groups(cells: Sequence[Cell], plan: Plan) -> Iterator[tuple[tuple[Path, ...], list[Cell]]]:
    """Yield the cells that may share processes, with the files that these load: a method's own file is in no other's.

    The float cells that such a method needs come with the first, so that nothing of the file is near them.
    """
    own = registry.own_files()
    shared = tuple(path for path in plan.adapters if path not in own.values())
    store = Store(plan.results)
    first = {cell.id: cell for cell in cells if cell.method not in own}
    for cell in cells:
        if cell.method in own:
            reference = float_cell(registry.task(cell.task, cell.edition), cell.model)
            if reference.id not in first and store.record(reference) is None:
                first[reference.id] = reference
    if first:
        yield shared, list(first.values())
    for path in dict.fromkeys(own.values()):
        group = [cell for cell in cells if own.get(cell.method) == path]
        if group:
            yield (*shared, path), group


def _run_group(cells: Sequence[Cell], plan: Plan, on_record: OnRecord, on_steps: OnSteps) -> None:
    """Measure cells in processes that no other group has."""
    with _executor(plan, len(cells)) as executor:
        for wave in ([c for c in cells if c.is_float], [c for c in cells if not c.is_float]):
            todo = list(wave)
            while todo and time.monotonic() <= plan.until:
                todo = executor.run_wave(todo, on_record, on_steps)
                time.sleep(BUSY_S if todo else 0)


def _executor(plan: Plan, cells: int) -> AbstractContextManager[Executor]:
    if plan.executor == "ray":
        from vitptq.bench.run.executors.ray_nodes import RayNodes  # here, because Ray is an extra

        return RayNodes(plan)
    return LocalProcesses(plan, cells)
