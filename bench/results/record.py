"""The record: the immutable result of one cell, with a checked schema. A failure is a record too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_serializer, field_validator, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from vitptq.bench.contracts.reporting import MethodTable
from vitptq.bench.contracts.task import Metric
from vitptq.bench.results.cell import Cell, canonical_json, sha256
from vitptq.bench.results.upgrade import upgraded

SCHEMA_VERSION = 3

Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
"""What a cell takes. Larger values are typing errors or forgeries, and arithmetic on them may overflow."""
Score = Annotated[float, Field(ge=-1e9, le=1e9)]

UNKNOWN = "unknown"
"""The commit where no clone, or none that git reads, holds the code."""
FailureKind = Literal["raised", "hung", "out_of_memory", "killed", "unsupported", "missing", "gate"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Failure(_Part):
    """Why a cell has no score."""

    kind: FailureKind
    message: str
    traceback: str = ""
    """The end of the traceback."""
    started: str = ""

    @property
    def headline(self) -> str:
        """Say in a word or two what became of the cell."""
        return "skipped" if self.kind == "gate" else f"failed ({self.kind})"


class EvidenceRef(_Part):
    """The evidence file beside the record."""

    file: str
    """Name inside the results folder's `evidence/`."""
    sha256: str
    bytes: Count


@pydantic_dataclass(config=ConfigDict(extra="forbid"), frozen=True, slots=True, kw_only=True)
class OperandAudit:
    """What the machine saw on one operand of one product; in slots, because thousands of records have hundreds each."""

    module: str
    op: str
    role: str
    bits: Annotated[int, Field(ge=1, le=32)] | None
    """Width of the quantizer it came from; null: it stayed float."""
    granularity: str = ""
    quantizer: str = ""
    levels: Count = 0
    """Largest number of distinct values seen within one group."""
    grid: Count = 0
    """Values that the quantizer can represent in one group; more than 2^bits is flagged."""
    float_values: Count = 0
    """Values of each group that stay in float; they count in `levels` and `grid`."""
    group: Count = 0
    """Values of a group: told only where some of them stay in float."""
    branch: bool = False
    """The product is in a float side branch, in half precision, and not one of the float model's."""
    off_grid: bool = False
    """Some value was not on the declared grid."""
    macs: Count = 0
    """Multiply-accumulates, per image, of the product that reads this operand."""
    values: Count = 0
    """Values of the operand, for one image: told only where the bit spec is an average over them."""


class Audit(_Part):
    """Levels per tensor, share of the multiply-accumulates on quantised operands, and what stayed float."""

    operands: tuple[OperandAudit, ...]
    """In a record's file a table by columns, without those that tell nothing: half the bytes of a list of operands."""
    macs: Count
    """Multiply-accumulates of one image, as counted by torch."""
    quantised_macs: Count
    """Those whose two operands were both quantised within the nominal width."""
    float_operands: tuple[str, ...]
    violations: tuple[str, ...]
    dynamic: bool = False
    """The method finds its ranges while the model runs, and says so."""
    parameters: dict[str, Count] = {}
    """Parameters of the model as built, by part: neck, heads, and "body" for all else; empty in older records."""
    extra_tensors: tuple[str, ...] = ()
    """Parameters and buffers that the float model does not have, with their shapes, but for a quantizer's own."""

    @field_validator("operands", mode="before")
    @classmethod
    def _from_columns(cls, value: Any) -> Any:
        return _rows(value) if isinstance(value, Mapping) else value

    @field_serializer("operands", when_used="json")
    def _to_columns(self, operands: tuple[OperandAudit, ...]) -> dict[str, list[JsonValue]]:
        columns = {name: [getattr(operand, name) for operand in operands] for name in _DEFAULTS}
        return {name: values for name, values in columns.items() if _tells_something(name, values)}

    @property
    def clean(self) -> bool:
        """Tell whether nothing was found that the bit spec forbids."""
        return not self.violations


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if len(lengths) > 1 or -1 in lengths:
        raise ValueError("the columns of the table of operands are not lists of one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _tells_something(name: str, values: list[Any]) -> bool:
    default = _DEFAULTS[name]
    return default is MISSING or any(value != default for value in values)


_DEFAULTS = {field.name: field.default for field in fields(OperandAudit)}


class Gate(_Part):
    """The float gate: a quantised score counts only if this environment reproduces the checkpoint's float score."""

    passed: bool
    float_cell: str
    measured: Score | None
    reference: Score | None
    tolerance: Amount
    reason: str = ""
    evidence: EvidenceRef | None = None
    """Where the float score was measured for the gate alone, because its record is from another environment."""


class Costs(_Part):
    """What it took. Times are wall-clock seconds; memory is the peak of the worker, MiB."""

    quantise_s: Amount
    evaluate_s: Amount
    decode_s: Amount | None = None
    """Decoding images, where that was not done before, and waiting for them; null in records older than this field."""
    total_s: Amount
    """From loading the model on, without what was decoded before the evaluation."""
    peak_host_mib: Amount
    peak_device_mib: Amount | None
    model_mib: Amount
    """Model size at the nominal bits: quantised weights at their width, everything else at 32 bits."""
    bit_operations: Count
    """Sum over products, for one image, of MACs x bits x bits (32 where an operand is float)."""


class Provenance(_Part):
    """Where, when and by what the cell was measured."""

    commit: str
    dirty: bool | None
    versions: dict[str, str]
    device: str
    threads: Count
    deterministic: bool
    """Whether torch was asked for repeatable operations, and no operation ran that has no repeatable form."""
    unrepeatable: tuple[str, ...] = ()
    """Operations that ran without one."""
    arithmetic: dict[str, JsonValue] = {}
    """How torch was told to compute: TF32 in products and in cuDNN, cuDNN's benchmark, cuBLAS's workspace."""
    environment: str
    """Hash of versions and kind of device: the float gate compares within one environment."""
    command: str
    started: str
    finished: str
    host: str
    outside: tuple[str, ...] = ()
    """Methods and tasks of the cell whose code is not the clone's: files named by a person, other packages."""

    @property
    def environment_hash(self) -> str:
        """Return what `environment` must be: the hash of versions and kind of device."""
        return sha256(canonical_json({"versions": self.versions, "device": self.device}).encode())[:16]

    @property
    def official(self) -> bool:
        """Tell whether the code that measured can be had again: a known commit, no change to it, nothing beside it."""
        return not self.why_unofficial

    @property
    def why_unofficial(self) -> str:
        """Say why the code that measured cannot be had again; empty where it can."""
        if self.commit == UNKNOWN or self.dirty is None:
            return "the commit is not known"
        if self.dirty:
            return "the clone had uncommitted changes"
        return f"code from outside the clone: {', '.join(self.outside)}" if self.outside else ""


class Repetition(_Part):
    """What measuring the cell again takes, and must find."""

    command: str = ""
    calibration_images: str = ""
    """Hash of the calibration images; empty where the method had none, or the task has no hash."""


class MethodDetails(_Part):
    """What the method told while it quantised."""

    figures: dict[str, JsonValue] = {}
    tables: dict[str, MethodTable] = {}
    images: dict[str, EvidenceRef] = {}
    """Where the images are that the method made, by name."""


class Details(_Part):
    """What is good to know beside the figures that are compared, by who says it."""

    task: dict[str, JsonValue] = {}
    """The data's version, the transform, the checkpoint's file: whatever the task wants recorded."""
    repetition: Repetition = Repetition()
    method: MethodDetails = MethodDetails()


class Record(_Part):
    """The immutable result of one cell."""

    schema_version: Literal[3] = 3
    id: str
    cell: Cell
    status: Literal["ok", "failed"]
    fidelity: str = ""
    scores: dict[str, Score] = {}
    metrics: tuple[Metric, ...] = ()
    """What the task declares of its scores; empty in a record without scores, and in those older than this field."""
    images: Count = 0
    evidence: EvidenceRef | None = None
    gate: Gate | None = None
    audit: Audit | None = None
    costs: Costs | None = None
    failure: Failure | None = None
    earlier: tuple[Failure, ...] = ()
    """Failures of earlier attempts, oldest first."""
    notes: tuple[str, ...] = ()
    details: Details = Details()
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, raw: Any) -> Any:
        return upgraded(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Record:
        if self.id != self.cell.id:
            raise ValueError(f"id {self.id[:12]} is not the hash of the cell ({self.cell.id[:12]})")
        if self.status == "ok" and not (self.scores and self.evidence and self.gate and self.audit and self.costs):
            raise ValueError("a record with status ok needs scores, evidence, gate, audit and costs")
        if self.status == "failed" and self.failure is None:
            raise ValueError("a record with status failed needs a failure")
        return self

    @property
    def counts(self) -> bool:
        """Tell whether the score counts on the board: measured, and behind a passed float gate."""
        return self.status == "ok" and self.gate is not None and self.gate.passed

    def result(self) -> dict[str, JsonValue]:
        """Return what must be equal when the same cell is measured again in the same environment: no times, no host."""
        return self.model_dump(
            mode="json",
            include={"id", "cell", "status", "scores", "images", "evidence", "gate", "audit", "notes"},
            exclude={"cell": {"run_time"}},
        )
