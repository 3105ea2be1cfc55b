"""The nodes of a Ray cluster: Ray chooses the node of each cell and notices when one is lost.

Cells are handed over as the cluster has room for them, so that the order is kept and a run can end in time.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from vitptq.bench import registry
from vitptq.bench.errors import BadInput, Missing, brief
from vitptq.bench.files import remove, write_atomically
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Failure, Record
from vitptq.bench.results.store import Store
from vitptq.bench.results.suites import float_cell
from vitptq.bench.run import provenance
from vitptq.bench.run.cell_run import cell_fidelity, failed
from vitptq.bench.run.devices import choose_devices
from vitptq.bench.run.executors.local import WORKER_ENVIRONMENT, add_lost
from vitptq.bench.run.executors.on_node import Answer, Errand, run_errand
from vitptq.bench.run.plan import OnRecord, OnSteps, Plan
from vitptq.bench.run.worker import POLL_S
from vitptq.bench.run.worker_notes import Step
from vitptq.bench.source_hash import code_hash

ATTEMPTS = 3
"""How many nodes a cell may be lost with: from then on it is taken for what kills them."""
PASSED_ON = "VITPTQ_"
"""Beginning of the environment variables that a node gets from the machine that started the run."""


@dataclass(frozen=True)
class Share:
    """What one cell takes of its node."""

    cpus: int
    gpus: int

    def fits(self, node: Mapping[str, float]) -> int:
        """Return how many cells a node has room for at a time."""
        by_gpu = node.get("GPU", 0) // self.gpus if self.gpus else float("inf")
        return int(min(node.get("CPU", 0) // self.cpus, by_gpu))


def share(nodes: Sequence[Mapping[str, float]], device: str, workers: int | None) -> Share:
    """Return what a cell takes of nodes with these resources: a GPU with its part of the cores, else a whole node.

    More CPU `workers` than nodes share the cores.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if device not in ("auto", "cpu", "cuda"):
        raise BadInput(f'device "{device}" cannot be asked of a cluster; known there: auto, cpu, cuda')
    if device == "cuda" and not with_gpus:
        raise BadInput("no node of the Ray cluster has a GPU; start one with ray start --num-gpus, or use --device cpu")
    if with_gpus and device != "cpu":
        return Share(max(1, int(min(node.get("CPU", 0) // node["GPU"] for node in with_gpus))), 1)
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cores:
        raise BadInput("no node of the Ray cluster has a CPU to compute on; start one with ray start --num-cpus")
    return Share(max(1, min(min(cores), sum(cores) // (workers or 1))), 0)


class RayNodes:
    """A connection to a Ray cluster. Use as a context manager."""

    def __init__(self, plan: Plan) -> None:
        """Connect, and decide what a cell takes of a node."""
        self._plan = plan
        self._ray = _connected(plan.address)
        self._share = share(self._nodes(), plan.device, plan.workers)
        self._store = Store(plan.results)
        self._mark = f".ray-{uuid.uuid4().hex}"
        write_atomically(plan.results / self._mark, b"")
        self._adapters = {str(path): path.read_bytes() for path in plan.adapters}
        self._run = self._ray.remote(
            num_cpus=self._share.cpus, num_gpus=self._share.gpus, max_retries=0, max_calls=0
        )(run_errand)  # fmt: skip

    def __enter__(self) -> RayNodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:  # else nothing runs there, and the next group of cells finds the same processes
            self._ray.shutdown()
        remove(self._plan.results / self._mark)

    def run_wave(self, cells: Sequence[Cell], on_record: OnRecord, on_steps: OnSteps) -> list[Cell]:
        """Run cells that do not wait for each other; return those that another process is working on."""
        before, _ = self._store.of(cells)
        todo, busy, lost = deque(cells), [], Counter[str]()
        waiting: dict[Any, Cell] = {}
        while waiting or (todo and time.monotonic() <= self._plan.until):
            while todo and len(waiting) < self._room() and time.monotonic() <= self._plan.until:
                cell = todo.popleft()
                waiting[self._run.remote(self._errand(cell))] = cell
            finished, _ = self._ray.wait(list(waiting), timeout=POLL_S)
            on_steps([Step(cell.label(), "on a node", 0, 1) for cell in waiting.values()])
            for reference in finished:
                cell = waiting.pop(reference)
                try:
                    answer = self._answer(reference)
                except self._ray.exceptions.RayError as error:
                    lost[cell.id] += 1
                    if lost[cell.id] < ATTEMPTS:
                        todo.appendleft(cell)
                    else:
                        on_record(cell, self._given_up(cell, error, before.get(cell.id)))
                    continue
                keep(answer, self._store)
                record = self._store.record(cell) if answer.measured else None
                if record is None:
                    busy.append(cell)
                else:
                    on_record(cell, record)
        return busy

    def _nodes(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        """Return how many cells may be with Ray: what the cluster has room for now, one where it has yet to grow."""
        room = max(1, sum(self._share.fits(node) for node in self._nodes()))
        return min(room, self._plan.workers or room)

    def _errand(self, cell: Cell) -> Errand:
        cores = str(self._share.cpus)
        environment = {
            "VITPTQ_DECODERS": cores, "VITPTQ_COMMAND": provenance.command(), **WORKER_ENVIRONMENT,
            **{name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)},
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", cores),
        }  # fmt: skip
        known = tuple(self._known(cell))
        return Errand(cell, self._plan, self._mark, code_hash(), known, self._adapters, environment)

    def _known(self, cell: Cell) -> Iterator[Record]:
        """Yield the records of a cell and of its float cell that can be read."""
        reference = float_cell(registry.task(cell.task, cell.edition), cell.model)
        for each in {cell.id: cell, reference.id: reference}.values():
            with suppress(BadInput):  # damaged, or of a newer version: it is left alone
                if (record := self._store.record(each)) is not None:
                    yield record

    def _answer(self, reference: Any) -> Answer:
        """Return a node's answer; RayError where it was lost with its node, or by Ray's hand."""
        try:
            answer: Answer = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise BadInput(f"a node of the Ray cluster cannot measure: {brief(str(error.cause), 400)}") from None
        if answer.problem:
            raise BadInput(answer.problem)
        return answer

    def _given_up(self, cell: Cell, error: Exception, before: Record | None) -> Record:
        """Write the record of a cell that was lost too often."""
        how = f"{type(error).__name__}: {brief(str(error), 240)}"
        message = f"lost {ATTEMPTS} times with its node or Ray's process there ({how}); try fewer workers per node"
        started = provenance.now()
        failure = Failure(kind="killed", message=message, started=started)
        device = choose_devices("cpu")[0]
        return add_lost(self._plan.results, failed(cell, failure, started, device, cell_fidelity(cell)), before)


def keep(answer: Answer, store: Store) -> None:
    """Put what a node sent into the results folder, evidence first; what a record there refers to stays."""
    sent = {record.id for record in answer.records}
    for name, content in answer.evidence.items():
        if name.partition(".")[0] not in sent:  # what opened a gate, under the name of a float cell
            _write_new(store.evidence_dir / name, content)
    for record in answer.records:
        there = store.record(record.cell)
        if there is not None and there.counts:
            continue
        for name, content in answer.evidence.items():
            if name.startswith(record.id):
                write_atomically(store.evidence_dir / name, content)
        store.add(record)


def _write_new(path: Path, content: bytes) -> None:
    with suppress(FileExistsError):
        write_atomically(path, content, replace=False)


def _connected(address: str) -> Any:
    """Return Ray, connected to the cluster at `address`."""
    try:
        import ray
    except ImportError:
        raise Missing('Ray is not installed; pip install "vitptq[ray]", or use --executor local') from None
    if ray.is_initialized():
        return ray
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise BadInput(
            f'no Ray cluster at address "{brief(address)}" ({brief(error, 240)}); start one with ray start --head, '
            "or name its address HOST:PORT with --address"
        ) from None
    return ray
