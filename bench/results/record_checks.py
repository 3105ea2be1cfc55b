"""What one record must say about itself, recomputed from its own figures and from what the project knows by name.

Nothing here reads evidence; each check yields one sentence per difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from vitptq.bench import registry
from vitptq.bench.bits import FLOAT_BITS
from vitptq.bench.contracts.task import Task
from vitptq.bench.errors import UnknownName, VitptqError, brief
from vitptq.bench.results import audit_rules
from vitptq.bench.results.record import Audit, Costs, Record
from vitptq.bench.results.suites import calibration_hash
from vitptq.bench.source_hash import source_hash

BEGUN = datetime(2026, 11, 22, tzinfo=UTC)
"""The day of the project's first commit: no record is older."""
SLACK = 0.99
"""A prepared model may have a few values less than the float one."""
CLOCKS = timedelta(hours=1)
"""How far the clocks of two machines may be apart."""


def name_problems(record: Record, task: Task) -> Iterator[str]:
    """Check model, checkpoint and method against those that the project knows."""
    cell, cards = record.cell, task.models()
    if cell.model not in cards:
        yield str(UnknownName(f"model of {task.name}/{task.edition}", cell.model, cards))
    elif cards[cell.model].checkpoint != cell.checkpoint:
        yield (
            f'checkpoint "{brief(cell.checkpoint)}" is not that of {cell.model}: '
            f'"{brief(cards[cell.model].checkpoint)}"'
        )


def metric_problems(record: Record, task: Task) -> Iterator[str]:
    """Check that the record declares of its scores what the task does."""
    if record.metrics and record.metrics != task.metrics:
        yield f"the record declares other metrics than its task: {brief(', '.join(m.name for m in record.metrics))}"


def fidelity_problems(record: Record) -> Iterator[str]:
    """Check that the record states the fidelity of its adapter."""
    try:
        method = registry.method(record.cell.method) if not record.cell.method.endswith(".py") else None
    except UnknownName:
        method = None
    if method is None:
        name = brief(record.cell.method)
        yield f'method "{name}" is not installed, so its fidelity cannot be checked; name its file with --adapter'
        return
    compared = method.parity and all(record.cell.parameters.get(name) == x for name, x in method.parity.items())
    if record.fidelity != method.fidelity and not (compared and record.fidelity == "parity"):
        yield f'the record says fidelity "{brief(record.fidelity)}", its adapter "{method.fidelity}"'
    if record.provenance.official and not registry.is_own(method):
        yield f'the record is official, but method "{brief(record.cell.method)}" is not this project\'s'
    if record.audit is not None and record.audit.dynamic != method.dynamic:
        told = "dynamic" if record.audit.dynamic else "fixed"
        yield f"the record says that ranges are {told}, its adapter does not"
    if record.cell.is_float != (method.category == "float"):
        yield f"method {method.name} cannot have bits {record.cell.bits}: only the float model is W32A32"
    if bool(record.cell.bit_spec.removed) != (method.category == "low-rank"):
        yield f"method {method.name} cannot have bits {record.cell.bits}: low-rank methods alone make factors"
    if record.cell.bit_spec.branch != (method.category == "float-branch"):
        yield f"method {method.name} cannot have bits {record.cell.bits}: float branches are another category"


def calibration_problems(record: Record, task: Task) -> Iterator[str]:
    """Check that the calibration list is the published one of this seed."""
    cell = record.cell
    if not cell.calibration_size:
        if cell.calibration_list:
            yield "a calibration list is named, but no calibration image"
        return
    try:
        published = calibration_hash(task, cell.calibration_size, cell.seed)
    except VitptqError as error:
        yield f"the calibration list cannot be checked: {error}"
        return
    if published != cell.calibration_list:
        yield f"the calibration list is not the published one of {cell.calibration_size} images and seed {cell.seed}"


def date_problems(record: Record, now: datetime | None = None) -> Iterator[str]:
    """Check that the record was made within the project's life, in this order, and not in the future."""
    latest = (now or datetime.now(UTC)) + CLOCKS
    moments = []
    for what, text in (("started", record.provenance.started), ("finished", record.provenance.finished)):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            yield f'{what} at "{brief(text)}", which is no date; expected for example 2026-11-27T19:30:00Z'
            continue
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moments.append(moment)
        if moment < BEGUN:
            yield f"{what} on {moment:%Y-%m-%d}, before the project began ({BEGUN:%Y-%m-%d})"
        if moment > latest:
            yield f"{what} on {moment:%Y-%m-%d %H:%M} UTC, which is in the future"
    if len(moments) == 2 and moments[1] < moments[0]:
        yield f"finished at {record.provenance.finished}, before it started ({record.provenance.started})"


def audit_problems(record: Record, float_record: Record | None) -> Iterator[str]:
    """Recompute from the operands and the cell's bits what the audit says: violations, shares, bit operations."""
    audited, costs, bits = record.audit, record.costs, record.cell.bit_spec
    assert audited is not None and costs is not None  # the schema demands both of a record with status ok
    yield from _malformed(audited)
    if len(audited.operands) % 2:
        yield f"{len(audited.operands)} operands, which are no pairs"
        return
    seen = sum(left.macs for left, _ in audit_rules.pairs(audited.operands))
    if audited.macs < seen:
        yield f"{seen} multiply-accumulates in the operands, the audit says {audited.macs} in all"
        return
    reference = float_record.audit.macs if float_record is not None and float_record.audit else None
    own = audited.macs - audit_rules.branch_macs(audited.operands)
    if reference is not None and own < reference and not bits.removed:
        yield f"{own} multiply-accumulates, the float model has {reference}"
    if not record.cell.is_float:
        float_audit = float_record.audit if float_record is not None else None
        found = audit_rules.product_violations(audited.operands, bits, audited.macs, float_audit)
        if float_record is not None and float_record.audit is not None:
            found += audit_rules.too_many_parameters(audited.parameters, float_record.audit.parameters, bits)
        for violation in dict.fromkeys(found):
            if violation not in audited.violations:
                yield f"the audit leaves out a violation: {brief(violation, 240)}"
        yield from _stem_problems(audited, float_record)
    left_float = tuple(f"{side.module}: {side.role}" for side in audited.operands if side.bits is None)
    yield from _differences(
        ("operands in float", len(left_float), len(audited.float_operands)),
        ("quantised multiply-accumulates", audit_rules.quantised_macs(audited.operands, bits), audited.quantised_macs),
        ("bit operations", audit_rules.bit_operations(audited), costs.bit_operations),
    )


def provenance_problems(record: Record) -> Iterator[str]:
    """Check the hash by which float gates tell environments apart."""
    if record.provenance.environment != record.provenance.environment_hash:
        yield (
            f"the environment is {brief(record.provenance.environment)}, its versions and device give "
            f"{record.provenance.environment_hash}"
        )


def parameter_problems(record: Record) -> Iterator[str]:
    """Check that the adapter takes the parameters, where it is the one that was measured."""
    try:
        method = registry.method(record.cell.method) if not record.cell.method.endswith(".py") else None
    except UnknownName:
        return  # `fidelity_problems` says so
    if method is not None and source_hash(method) == record.cell.source:
        try:
            method.configured(record.cell.parameters | record.cell.run_time)
        except VitptqError as error:
            yield str(error)


def cost_problems(record: Record, float_record: Record | None) -> Iterator[str]:
    """Check what one cost says about another. That none is negative or endless is the schema's."""
    costs: Costs | None = record.costs
    assert costs is not None
    if float_record is not None and float_record.costs is not None:
        smallest = _dense_mib(record, float_record.costs.model_mib) * record.cell.bit_spec.weights / FLOAT_BITS
        if costs.model_mib < SLACK * smallest:
            bits = record.cell.bit_spec.weights
            yield f"{costs.model_mib} MiB is less than every weight at {bits} bits ({smallest:.4f})"
    if costs.quantise_s + costs.evaluate_s > costs.total_s + 0.01:
        parts = f"quantising ({costs.quantise_s} s) and evaluating ({costs.evaluate_s} s)"
        yield f"{costs.total_s} s in all is less than {parts}"


def _dense_mib(record: Record, float_mib: float) -> float:
    """Return the size in float of the parameters that there are: with factors, as many as the audit counted."""
    if not record.cell.bit_spec.removed or record.audit is None:
        return float_mib
    return sum(record.audit.parameters.values()) * FLOAT_BITS / 8 / 2**20


def _malformed(audited: Audit) -> Iterator[str]:
    if not audited.macs:
        yield "the audit saw no multiply-accumulate"
    for side in audited.operands:
        if side.bits is not None and side.levels > side.grid:
            yield f"{brief(side.module)}: {brief(side.role)} takes {side.levels} of {side.grid} values"
            return
        if side.float_values > side.group:
            kept = f"keeps {side.float_values} of {side.group} values of a group in float"
            yield f"{brief(side.module)}: {brief(side.role)} {kept}"
            return


def _stem_problems(audited: Audit, float_record: Record | None) -> Iterator[str]:
    """Check that only what reads the image in the float model has the width of the image."""
    if float_record is None or float_record.audit is None:
        return
    image = {side.module for side in float_record.audit.operands if side.role == "stem_input"}
    for module in dict.fromkeys(side.module for side in audited.operands if side.role == "stem_input"):
        if module not in image:
            yield f"{brief(module)} is said to read the image; in the float model it does not"


def _differences(*figures: tuple[str, int, int]) -> Iterator[str]:
    for what, recomputed, said in figures:
        if recomputed != said:
            yield f"the operands give {recomputed} {what}, the record says {said}"
