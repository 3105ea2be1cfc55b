"""Run one cell: load, gate, quantise, audit, evaluate, record. Nothing here knows a method or a task by name."""

from __future__ import annotations

import hashlib
import random
import shutil
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from vitptq.bench import registry
from vitptq.bench.bits import FLOAT
from vitptq.bench.contracts.method import Calibration, DataFree, Method
from vitptq.bench.contracts.quantizer import kept_weights
from vitptq.bench.contracts.reporting import MethodLog, Report, listening
from vitptq.bench.contracts.task import Progress, Task
from vitptq.bench.errors import BadInput, GateShut, Missing, Unsupported, VitptqError
from vitptq.bench.isolation import image_guard
from vitptq.bench.isolation.surroundings import Surroundings
from vitptq.bench.results.audit_rules import bit_operations
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import (
    Audit,
    Costs,
    Details,
    Failure,
    FailureKind,
    Gate,
    MethodDetails,
    Record,
    Repetition,
)
from vitptq.bench.results.store import Store
from vitptq.bench.results.suites import float_cell
from vitptq.bench.run import arithmetic, costs, float_gate, provenance
from vitptq.bench.run.audit import audit
from vitptq.bench.run.compiled import compiled
from vitptq.bench.run.costs import Stopwatch
from vitptq.bench.run.evaluation_audit import IMAGES, EvaluationAudit
from vitptq.bench.source_hash import source_hash

TRACEBACK_LINES = 25
LISTED_CHANGES = 5
OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How torch says it where it raises a plain RuntimeError."""
Say = Callable[[str, int, int], None]
"""Called with (step, done, in all)."""


@dataclass(frozen=True)
class Run:
    """What a worker needs to run cells."""

    store: Store
    device: torch.device
    say: Say
    retry_failed: bool = False
    past_gate: bool = False
    """Measure on a float model that does not reach its reference, apart from the board."""
    again: str = ""
    """The command that repeats the run; a record adds the filters for its cell."""
    compiled: bool = False
    """Evaluate through torch.compile; see `compiled.py`."""
    gates: dict[str, Gate] = field(default_factory=dict)
    """Gates opened by this process for models whose float record comes from another environment."""
    surroundings: Surroundings | None = None
    """What every cell must find in this process; None where nothing else runs in it."""
    changes: list[str] = field(default_factory=list)
    """What cells of this process changed in it: no other may run here."""
    float_audits: dict[tuple[str, ...], Audit] = field(default_factory=dict)
    """Audits of float models: the products that a quantised one must have, too."""


def run_cell(cell: Cell, run: Run) -> Record | None:
    """Return the record of a cell, measured now if it has none; None where another process is at it.

    An error inside the cell becomes a failed record; only a results folder that cannot be written is raised.
    """
    with run.store.claimed(cell) as mine:
        if not mine:
            return None
        previous = run.store.record(cell)
        if not wanted(previous, retry=run.retry_failed, past_gate=run.past_gate):
            return previous
        started = provenance.now()
        try:
            with arithmetic.unrepeatable_operations() as unrepeatable:
                record = _measure(cell, run, started, unrepeatable)
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever goes wrong becomes a record
            record = failed(cell, failure_of(error, started), started, run.device, cell_fidelity(cell))
        record = _marked(record, run)
        if previous is not None:
            record = record.model_copy(update={"earlier": (*previous.earlier, _why_not_counted(previous))})
        run.store.add(record)
        if record.status == "ok":  # else another attempt goes on from what this one finished
            shutil.rmtree(run.store.work_dir(cell), ignore_errors=True)
        return record


def wanted(previous: Record | None, *, retry: bool, past_gate: bool) -> bool:
    """Tell whether a cell is to be measured, given what is known of it.

    `retry` takes what does not count: failures, and scores behind a shut gate, which a mended checkpoint may open.
    `past_gate` takes what was skipped for a shut gate.
    """
    if previous is None:
        return True
    skipped = previous.failure is not None and previous.failure.kind == "gate"
    return (retry and not previous.counts) or (past_gate and skipped)


def _why_not_counted(record: Record) -> Failure:
    if record.failure is not None:
        return record.failure
    reason = record.gate.reason if record.gate else ""
    return Failure(kind="gate", message=reason, started=record.provenance.started)


def _marked(record: Record, run: Run) -> Record:
    """Return the record with what its cell changed in this process: a note, and violations where it was functions."""
    changed = run.surroundings.changed() if run.surroundings is not None else []
    if not changed:
        return record
    run.changes.extend(changed)
    listed = ", ".join(changed[:LISTED_CHANGES]) + (" and more" if len(changed) > LISTED_CHANGES else "")
    notes = (*record.notes, f"the method changed its process, which was replaced afterwards: {listed}")
    functions = [f"the method replaced {name}" for name in changed if "(" not in name]
    audited = record.audit
    if audited is not None and functions:
        audited = audited.model_copy(update={"violations": (*audited.violations, *functions[:LISTED_CHANGES])})
    return record.model_copy(update={"notes": notes, "audit": audited})


def failed(cell: Cell, failure: Failure, started: str, device: torch.device, fidelity: str = "") -> Record:
    """Return the record of a cell that has no score, with the reason."""
    return Record(
        id=cell.id, cell=cell, status="failed", fidelity=fidelity, failure=failure,
        provenance=provenance.collect(device, started, cell=cell),
    )  # fmt: skip


def failure_of(error: BaseException, started: str) -> Failure:
    """Describe an exception: kind, message and the end of the traceback."""
    kind: FailureKind = "raised"
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        kind = "out_of_memory"
    elif isinstance(error, Unsupported):
        kind = "unsupported"
    elif isinstance(error, Missing):
        kind = "missing"
    elif isinstance(error, GateShut):
        kind = "gate"
    lines = "".join(traceback.format_exception(error)).splitlines()
    expected = isinstance(error, VitptqError)  # its message says it all
    return Failure(
        kind=kind, message=str(error) if expected else f"{type(error).__name__}: {error}",
        traceback="" if expected else "\n".join(lines[-TRACEBACK_LINES:]), started=started,
    )  # fmt: skip


def cell_fidelity(cell: Cell) -> str:
    """Return the fidelity that the cell's adapter states for its parameters."""
    try:
        return registry.method(cell.method).configured(cell.parameters).fidelity_as_configured()
    except VitptqError:
        return ""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  third-party code draws from the global generator
    torch.manual_seed(seed)


def _measure(cell: Cell, run: Run, started: str, unrepeatable: Collection[str]) -> Record:
    task, method = registry.task(cell.task, cell.edition), _configured(cell)
    task.prepare(_said(run, "prepare"))
    opened = None if cell.is_float else _gate(cell, task, run)
    if opened is not None and not opened.passed and not run.past_gate:
        raise GateShut(
            f"not measured, because the float gate of {cell.model} is shut: {opened.reason}; once the checkpoint is "
            "mended: --retry failed; to measure all the same, apart from the board: --past-gate"
        )
    decoding = Stopwatch()  # apart from the cell's: decoding images is no model's cost
    if method.category != "data-free":
        with decoding("decode"):
            task.preload(cell.model, _said(run, "decode images"))
    watch = Stopwatch()
    costs.reset_peak_memory(run.device)
    model = task.load(cell.model, run.device)
    example = task.example(cell.model, run.device)
    float_audit = _float_audit(cell, model, example, task, run)
    float_tensors = {name for name, _ in [*model.named_parameters(), *model.named_buffers()]}
    calibration = _calibration(cell, task, method, run.device)
    run.say("quantise", 0, 1)
    with listening(_reported(run), run.store.work_dir(cell), cell.method) as log:
        quantised = quantise(method, model, calibration, cell, watch, run.device)
    del model
    notes = (*method.notes(), *log.notes)
    details = Details(  # before the evaluation, which nothing that cannot be recorded should cost
        task=task.details(cell.model),
        repetition=_repetition(cell, run, calibration),
        method=_method_details(log, cell, run),
    )
    if method.category == "data-free":  # the images were dropped while it worked
        with watch.paused(), decoding("decode"):
            task.preload(cell.model, _said(run, "decode images"))
    audits = EvaluationAudit(
        quantised, cell.bit_spec, task.forward,
        float_audit=float_audit, float_tensors=float_tensors, dynamic=method.dynamic,
    )  # fmt: skip
    waited = task.seconds_waited()
    with kept_weights():
        audits.before(example)
        with (
            arithmetic.evaluated_in(cell.precision, quantised, run.device),
            compiled(quantised, asked=run.compiled),
            watch("evaluate"),
            audits.during(_said(run, "evaluate")) as progress,
        ):
            evidence = task.evaluate(quantised, cell.model, run.device, progress)
            costs.finish(run.device)
        waited = task.seconds_waited() - waited
        audited = audits.after(None if cell.is_float else task.real_batch(cell.model, IMAGES, run.device))
    scores = task.score(evidence)
    card = task.models()[cell.model]
    return Record(
        id=cell.id, cell=cell, status="ok", fidelity=method.fidelity_as_configured(), scores=scores,
        metrics=task.metrics, images=task.count(evidence),
        evidence=run.store.add_evidence(cell.id, evidence),
        gate=opened or float_gate.float_gate(card, task.ranking_metric, scores, cell),
        audit=audited, costs=_costs(watch, decoding, waited, quantised, audited, run.device),
        notes=notes, details=details,
        provenance=provenance.collect(run.device, started, unrepeatable, cell, compiled=run.compiled),
    )  # fmt: skip


def _float_audit(cell: Cell, model: nn.Module, example: object, task: Task, run: Run) -> Audit:
    """Return the audit of the float model, made once per process."""
    key = (cell.task, cell.edition, cell.model, cell.checkpoint)
    if key not in run.float_audits:
        run.float_audits[key] = audit(model, FLOAT, example, task.forward)
    return run.float_audits[key]


def _repetition(cell: Cell, run: Run, calibration: Calibration | DataFree) -> Repetition:
    command = f"{run.again} --only id={cell.id[:16]} --results repeated" if run.again else ""
    images = calibration.digest if isinstance(calibration, Calibration) else ""
    return Repetition(command=command, calibration_images=images)


def _method_details(log: MethodLog, cell: Cell, run: Run) -> MethodDetails:
    """Return what the method told; the images that it made go to one file per name, beside the evidence."""
    images = {name: run.store.add_evidence(f"{cell.id}.{name}", {name: made}) for name, made in log.images.items()}
    return MethodDetails(figures=log.figures, tables=log.tables, images=images)


def _configured(cell: Cell) -> Method:
    cls = registry.method(cell.method)
    if source_hash(cls) != cell.source:
        raise BadInput(f"the source of method {cell.method} changed after the suite was planned; start the run again")
    return cls.configured(cell.parameters | cell.run_time)


def _gate(cell: Cell, task: Task, run: Run) -> Gate:
    """Return the gate of the cell's model in this environment, measuring the float cell first where that is missing."""
    reference = float_cell(task, cell.model)
    try:
        record = run.store.record(reference)
    except BadInput:  # damaged, or of a newer version: it is left alone
        return _gate_without_record(cell, task, reference, run)
    if record is None or (record.status == "failed" and run.retry_failed):
        record = run_cell(reference, run)
    if record is not None and record.status == "failed":
        why = record.failure.message if record.failure else "unknown"
        raise BadInput(f"the float cell of {cell.model} failed ({why}); once that is mended: --retry failed")
    if record is not None and record.gate is not None and _measured_here(record, run):
        return record.gate
    return _gate_without_record(cell, task, reference, run)


def _measured_here(record: Record, run: Run) -> bool:
    return record.provenance.environment == provenance.environment(run.device)


def _gate_without_record(cell: Cell, task: Task, reference: Cell, run: Run) -> Gate:
    """Measure the float model for its gate alone, once per process, with evidence of its own.

    Its record comes from another environment, or another process is at it right now.
    """
    if reference.id not in run.gates:
        model = task.load(cell.model, run.device)
        evidence = task.evaluate(model, cell.model, run.device, _said(run, "float gate"))
        opened = float_gate.float_gate(task.models()[cell.model], task.ranking_metric, task.score(evidence), reference)
        name = f"{reference.id}.{provenance.environment(run.device)}"
        run.gates[reference.id] = opened.model_copy(update={"evidence": run.store.add_evidence(name, evidence)})
    return run.gates[reference.id]


def quantise(
    method: Method,
    model: nn.Module,
    calibration: Calibration | DataFree,
    cell: Cell,
    watch: Stopwatch,
    device: torch.device,
) -> nn.Module:
    """Return the quantised model, after checking that the float model was left as it was."""
    before = fingerprint(model)
    seed_everything(cell.seed)  # here, so that nothing done before changes what the method draws
    with out_of_reach(method), watch("quantise"):
        quantised = method.quantize(model, calibration, cell.bit_spec)  # type: ignore[arg-type]
        costs.finish(device)
    returned: object = quantised  # whatever the annotation says
    if not isinstance(returned, nn.Module):
        raise BadInput(f"method {method.name} returned {type(quantised).__name__}, not a module")
    if fingerprint(model) != before:
        raise BadInput(f"method {method.name} changed the float model; quantize() must work on a copy")
    return quantised.eval()


@contextmanager
def out_of_reach(method: Method) -> Iterator[None]:
    """Let a data-free method reach no image of any task inside, and any other no evaluation image."""
    tasks = registry.tasks().values()
    data_free = method.category == "data-free"
    with image_guard.closed_images(tasks) if data_free else image_guard.closed_evaluation(tasks):
        yield


def fingerprint(model: nn.Module) -> str:
    """Hash a model's parameters, buffers (also those that no checkpoint holds), and what its modules are."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()]):
        digest.update(f"{name}\0{tensor.requires_grad}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(str([(n, m.training, type(m).__qualname__) for n, m in model.named_modules()]).encode())
    return digest.hexdigest()


def _calibration(cell: Cell, task: Task, method: Method, device: torch.device) -> Calibration | DataFree:
    """Return what the method may see: for a data-free one the input's description, and no way to an image."""
    if method.category == "data-free" or method.category == "float":
        return DataFree(task.input(cell.model), device, cell.seed)
    calibration = task.calibration(cell.model, cell.calibration_size, cell.seed, device)
    calibration.seed = cell.seed
    return calibration


def _said(run: Run, step: str) -> Progress:
    return lambda done, total: run.say(step, done, total)


def _reported(run: Run) -> Report:
    return lambda step, done, total: run.say(f"quantise: {step}", done, total)


def _costs(
    watch: Stopwatch, decoding: Stopwatch, waited: float, model: nn.Module, audited: Audit, device: torch.device
) -> Costs:
    return Costs(
        quantise_s=round(watch.seconds["quantise"], 3), evaluate_s=round(watch.seconds["evaluate"] - waited, 3),
        decode_s=round(decoding.seconds["decode"] + waited, 3), total_s=round(watch.total, 3),
        peak_host_mib=round(costs.peak_host_mib(), 1),
        peak_device_mib=costs.peak_device_mib(device), model_mib=round(costs.model_mib(model, audited), 4),
        bit_operations=bit_operations(audited),
    )  # fmt: skip
