"""Thousands of made-up records that hold, to measure time and memory of the website and the verification.

    python -m tests.reliability.many_records make 10000 MANY --from results-local
    python -m tests.reliability.many_records site MANY OUT
    python -m tests.reliability.many_records verify MANY

The records of a real results folder (the quick suite's, or more) are repeated for more models, methods, bit widths and
seeds. Predictions are the float model's with some of them changed; the score is that of the evidence. Detections, whose
score takes half a second each, come from a small stock. The figures are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.task import Evidence, ModelCard, Task
from vitptq.bench.results import audit_rules
from vitptq.bench.results.cell import Cell, canonical_json, sha256
from vitptq.bench.results.record import Audit, EvidenceRef, Gate, OperandAudit, Record
from vitptq.bench.results.store import Store

BITS = ("W8A8", "W6A6", "W4A4", "W3A3")
SEEDS = range(3)
METHODS = (
    "minmax", "ema", "percentile", "omse", "easyquant", "ptq4vit", "fq-vit", "repq-vit", "brecq", "qdrop", "adaround",
    "adalog", "erq", "aphq-vit",
)  # fmt: skip
STOCK = 12
"""Detections of so many different models."""
MODELS = 100
"""Copies of each model, at most."""
FAILED = 50
"""Every so many-th record is a failure."""


@dataclass
class Made:
    """Records made from one float record and one quantised record of a model."""

    store: Store
    source: Store
    reference: Record
    quantised: Record
    suffix: str
    stock: dict[str, list[tuple[EvidenceRef, dict[str, float]]]]

    @cached_property
    def task(self) -> Task:
        """Return the task that scores them."""
        return registry.task(self.reference.cell.task, self.reference.cell.edition)

    @cached_property
    def predictions(self) -> Evidence:
        """Return what the float model predicted."""
        assert self.reference.evidence is not None
        return self.source.evidence(self.reference.evidence)

    def records(self) -> Iterator[Record]:
        """Yield the float record, then every method, bit width and seed."""
        cell = self.reference.cell.model_copy(update={"model": self.reference.cell.model + self.suffix})
        ref = self._written(cell.id, self.predictions)
        assert self.reference.gate is not None
        gate = self.reference.gate.model_copy(update={"float_cell": cell.id, "evidence": None})
        yield self.reference.model_copy(update={"id": cell.id, "cell": cell, "evidence": ref, "gate": gate})
        for method, bits, seed in itertools.product(METHODS, BITS, SEEDS):
            yield self._quantised(method, bits, seed, gate)

    def _quantised(self, method: str, bits: str, seed: int, gate: Gate) -> Record:
        cls = registry.method(method)
        source = sha256(f"many {method}".encode())
        names = list(self.task.calibration_names(32, seed))
        listed = sha256(canonical_json(names).encode())
        model = self.reference.cell.model + self.suffix
        changes = {"model": model, "method": method, "source": source, "parameters": {}, "bits": bits, "seed": seed}
        cell = self.quantised.cell.model_copy(update=changes | {"calibration_size": 32, "calibration_list": listed})
        number = int(cell.id[:8], 16)
        common: dict[str, Any] = {"id": cell.id, "cell": cell, "fidelity": cls.fidelity}
        if number % FAILED == 0:
            return self._failed(common)
        ref, scores = self._evidence(cell, number)
        audit = _at(self.quantised, BitSpec.parse(bits), cls.dynamic)
        assert self.quantised.costs is not None and self.reference.costs is not None
        mib = self.reference.costs.model_mib * BitSpec.parse(bits).weights / 32
        figures = {"bit_operations": audit_rules.bit_operations(audit), "model_mib": round(mib + 0.01, 4)}
        costs = self.quantised.costs.model_copy(update=figures)
        told = {"evidence": ref, "scores": scores, "audit": audit, "gate": gate, "costs": costs}
        return self.quantised.model_copy(update=common | told)

    def _failed(self, common: dict[str, Any]) -> Record:
        nothing = {"scores": {}, "evidence": None, "gate": None, "audit": None, "costs": None, "images": 0}
        failure = {"kind": "raised", "message": "ValueError: made up", "traceback": "Traceback: made up"}
        raw = self.quantised.model_dump(mode="json") | nothing | {"status": "failed", "failure": failure}
        return Record.model_validate(raw | common | {"cell": common["cell"].model_dump(mode="json")})

    def _evidence(self, cell: Cell, number: int) -> tuple[EvidenceRef, dict[str, float]]:
        if "predictions" in self.predictions:
            found = _misled(self.predictions, cell.bit_spec.weights, np.random.default_rng(number))
            return self._written(cell.id, found), self.task.score(found)
        kept = self.stock.setdefault(self.reference.id, [])
        if len(kept) < STOCK:
            found = _noisy(self.predictions, np.random.default_rng(len(kept)))
            kept.append((self._written(cell.id, found), self.task.score(found)))
            return kept[-1]
        ref, scores = kept[(number // len(SEEDS) * len(SEEDS) + cell.seed) % STOCK]
        name = f"{cell.id}.npz"
        os.link(self.store.evidence_dir / ref.file, self.store.evidence_dir / name)
        return ref.model_copy(update={"file": name}), scores

    def _written(self, stem: str, found: Evidence) -> EvidenceRef:
        return self.store.add_evidence(stem, found)


def _misled(found: Evidence, bits: int, rng: np.random.Generator) -> Evidence:
    """Return class predictions of which some are others: more of them at fewer bits."""
    predictions = found["predictions"].copy()
    share = rng.uniform(0.5, 1.5) * 0.4 / 2 ** (bits / 2)
    wrong = rng.choice(len(predictions), size=int(len(predictions) * share), replace=False)
    predictions[wrong] = rng.integers(0, 10, size=len(wrong))
    return {**found, "predictions": predictions}


def _noisy(found: Evidence, rng: np.random.Generator) -> Evidence:
    """Return detections with other confidences, or areas with smaller intersections."""
    name, least = ("scores", 0.7) if "scores" in found else ("intersection", 0.9)
    values = found[name] * rng.uniform(least, 1.0, found[name].shape)
    return {**found, name: values.astype(found[name].dtype)}


def _at(record: Record, bits: BitSpec, dynamic: bool) -> Audit:
    """Return a W4A4 record's audit at another width."""
    assert record.audit is not None
    operands = tuple(_operand_at(operand, bits.weights) for operand in record.audit.operands)
    return record.audit.model_copy(update={"operands": operands, "dynamic": dynamic})


def _operand_at(operand: OperandAudit, bits: int) -> OperandAudit:
    if operand.bits != 4:
        return operand
    return replace(operand, bits=bits, grid=2**bits, levels=min(operand.levels, 2**bits))


def make(count: int, root: Path, origin: Path) -> None:
    """Write at least `count` records to the folder `root`."""
    store, source = Store(root), Store(origin)
    found = source.records()
    pairs = []
    for reference in (r for r in found if r.cell.is_float and r.counts):
        same = (r for r in found if r.cell.model == reference.cell.model and r.cell.bits == "W4A4" and r.counts)
        quantised = next((r for r in same if r.cell.calibration_size and r.cell.method == "minmax"), None)
        if quantised is not None:
            pairs.append((reference, quantised))
    stock: dict[str, list[tuple[EvidenceRef, dict[str, float]]]] = {}
    store.records_dir.mkdir(parents=True, exist_ok=True)
    store.evidence_dir.mkdir(parents=True, exist_ok=True)
    written = 0
    for copy in itertools.count():
        for reference, quantised in pairs:
            for record in Made(store, source, reference, quantised, f"_{copy:03}" if copy else "", stock).records():
                path = store.records_dir / f"{record.id}.json"
                path.write_text(record.model_dump_json() + "\n", encoding="utf-8")
                written += 1
                if written == count:
                    return
        print(f"{written} of {count} records", flush=True)


def with_more_models() -> None:
    """Let the tasks know the models that `make` made up, as copies of theirs."""
    for cls in {type(task) for task in registry.tasks().values() if task.edition == "mini"}:
        cls.models = _extended(cls.models)  # type: ignore[method-assign]


def _extended(models: Callable[[Task], Any]) -> Callable[[Task], dict[str, ModelCard]]:
    def extended(task: Task) -> dict[str, ModelCard]:
        known = dict(models(task))
        more = ((f"{name}_{copy:03}", card) for copy in range(1, MODELS) for name, card in known.items())
        return known | {name: replace(card, name=name) for name, card in more}

    return extended


def measured(what: str, work: Callable[[], object]) -> None:
    """Run `work` and print seconds and MiB of this process and its children."""
    start = time.perf_counter()
    done = threading.Event()
    memory: list[float] = [0.0]
    watcher = threading.Thread(target=_watch, args=(done, memory))
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = sum(part.ru_utime + part.ru_stime for part in (own, children))
    print(
        f"{what}: {time.perf_counter() - start:.1f} s, {cpu:.1f} processor seconds with start-up, "
        f"at most {memory[0]:.0f} MiB in all processes (shared pages once), {own.ru_maxrss / 1024:.0f} in the first"
    )


def _watch(done: threading.Event, memory: list[float]) -> None:
    """Keep the most memory that this process and its children had at a time, in MiB."""
    own = psutil.Process()
    while not done.wait(0.5):
        held = 0
        for process in (own, *own.children(recursive=True)):
            with suppress(psutil.Error):
                held += process.memory_full_info().pss
        memory[0] = max(memory[0], held / 2**20)


def main() -> None:
    """Make records, or measure what is done with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("count", type=int)
    making.add_argument("folder", type=Path)
    making.add_argument("--from", dest="origin", type=Path, default=Path("results-local"))
    for name in ("site", "verify"):
        one = commands.add_parser(name)
        one.add_argument("folder", type=Path)
        if name == "site":
            one.add_argument("out", type=Path)
    asked = parser.parse_args()
    if asked.command == "make":
        make(asked.count, asked.folder, asked.origin)
    elif asked.command == "site":
        from vitptq.bench.commands.publish import site

        measured("site", lambda: site(asked.out, [asked.folder]))
    else:
        from vitptq.bench.commands.publish import verify

        with_more_models()
        measured("verify", lambda: verify(asked.folder))


if __name__ == "__main__":
    main()
