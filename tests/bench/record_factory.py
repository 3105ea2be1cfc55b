"""Records made to order for tests: consistent with the schema, plausible, and different only where a test says so."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

from tests.bench.noise_factory import PlantedNoise
from vitptq.bench.board.board import Board
from vitptq.bench.board.method_card import MethodCard
from vitptq.bench.contracts.task import Metric
from vitptq.bench.results.cell import Cell, sha256
from vitptq.bench.results.history import Measured, line_of
from vitptq.bench.results.record import (
    Audit,
    Costs,
    EvidenceRef,
    Failure,
    FailureKind,
    Gate,
    OperandAudit,
    Provenance,
    Record,
)

TOP1 = Metric("top1", "Top-1 accuracy", proportion=True, ranks=True)
FLOAT_SCORES = {"vit_mini": 94.1, "swin_mini": 95.3, "mobilevit_mini": 93.2}
METHODS = {
    "float": ("Float", "reference", "float"),
    "minmax": ("MinMax", "paper", "ptq"),
    "ema": ("EMA", "paper", "ptq"),
    "percentile": ("Percentile", "paper", "ptq"),
    "omse": ("OMSE", "inferred", "ptq"),
    "repq_vit": ("RepQ-ViT", "paper", "ptq"),
    "psaq": ("PSAQ-ViT", "inferred", "data-free"),
}
LOSSES = {"minmax": 27.0, "ema": 19.0, "percentile": 9.0, "omse": 7.5, "repq_vit": 3.1, "psaq": 14.0}


def make_cell(**changes: Any) -> Cell:
    """Return a cell, with the given fields changed."""
    fields: dict[str, Any] = {
        "task": "classification",
        "edition": "mini",
        "data": "mini-1",
        "model": "vit_mini",
        "checkpoint": sha256(b"vit_mini"),
        "method": "minmax",
        "source": sha256(str(changes.get("method", "minmax")).encode()),
        "parameters": {},
        "bits": "W4A4",
        "track": "standard",
        "seed": 0,
        "calibration_size": 32,
        "calibration_list": sha256(b"list"),
    }
    return Cell(**(fields | changes))


def make_record(
    cell: Cell | None = None,
    *,
    score: float = 80.0,
    float_score: float = 94.1,
    passed: bool = True,
    failure: FailureKind | None = None,
    violations: Iterable[str] = (),
    **changes: Any,
) -> Record:
    """Return a record of `cell`: ok unless `failure` names a kind; `changes` replace whole fields."""
    cell = cell or make_cell()
    fields: dict[str, Any] = {
        "id": cell.id,
        "cell": cell,
        "fidelity": "paper",
        "provenance": make_provenance(),
        "details": {"repetition": {"command": f"vitptq run mini --only method={cell.method} --only bits={cell.bits}"}},
    }
    if failure is None:
        fields |= {
            "status": "ok",
            "scores": {"top1": score},
            "metrics": (TOP1,),
            "images": 3000,
            "evidence": EvidenceRef(file=f"{cell.id}.npz", sha256=sha256(cell.id.encode()), bytes=4812),
            "gate": make_gate(passed, float_score),
            "audit": make_audit(cell, tuple(violations)),
            "costs": make_costs(cell),
        }
    else:
        reason = Failure(
            kind=failure, message=f"{failure} on purpose", traceback="Traceback:\n  ValueError: on purpose"
        )
        fields |= {"status": "failed", "failure": reason}
    return Record(**(fields | changes))


DETECTION = (
    Metric("box_ap", "Box AP", ranks=True),
    Metric("box_ap50", "Box AP at IoU 0.50", detail=True),
    Metric("mask_ap", "Mask AP"),
)


def make_detection_records(environment: str = "", method: str = "minmax", seeds: int = 1) -> list[Record]:
    """Return a detector's float record (46.0, 41.6) and its W4A4 ones (42.0, 38.0), perhaps of another environment."""
    common = {"task": "coco", "model": "mask_rcnn", "checkpoint": sha256(b"mask_rcnn")}
    reference = make_cell(**common, method="float", bits="W32A32", calibration_size=0, calibration_list="")
    gate = make_gate(measured=46.0).model_copy(update={"float_cell": reference.id})
    there = make_provenance(**({"environment": environment} if environment else {}))
    shared = {"metrics": DETECTION, "gate": gate}
    quantised = [make_cell(**common, method=method, seed=seed) for seed in range(seeds)]
    return [
        make_record(reference, scores={"box_ap": 46.0, "box_ap50": 68.0, "mask_ap": 41.6}, **shared),
        *(
            make_record(cell, scores={"box_ap": 42.0, "box_ap50": 64.0, "mask_ap": 38.0}, provenance=there, **shared)
            for cell in quantised
        ),
    ]


def measured(records: Iterable[Record]) -> list[Measured]:
    """Return the records' lines in a history, in the order of time."""
    lines = [line_of(record.model_dump(mode="json"), "", record.id, 0, 0) for record in records]
    return sorted(lines, key=lambda line: (line.finished, line.id))


def make_provenance(**changes: Any) -> Provenance:
    """Return a provenance, with the given fields changed."""
    fields: dict[str, Any] = {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "versions": {"python": "3.11.9", "torch": "2.11.0", "timm": "1.0.31"},
        "device": "cpu",
        "threads": 2,
        "deterministic": True,
        "environment": sha256(b"environment"),
        "command": "vitptq run mini",
        "started": "2026-01-02T03:00:00+00:00",
        "finished": "2026-01-02T03:00:20+00:00",
        "host": "bench-1",
    }
    return Provenance(**(fields | changes))


def make_gate(passed: bool = True, measured: float = 94.1) -> Gate:
    """Return a float gate with its reason."""
    reason = "" if passed else f"float score {measured:.2f} is 9.90 points from the reference"
    return Gate(
        passed=passed,
        float_cell=sha256(b"float"),
        measured=measured,
        reference=measured if passed else measured - 9.9,
        tolerance=0.3,
        reason=reason,
    )


def make_audit(cell: Cell, violations: tuple[str, ...] = (), blocks: int = 6) -> Audit:
    """Return the audit of a small transformer: the operands of `blocks` blocks, stem and head included."""
    operands = [operand for name, op, roles in _products(blocks) for operand in _operands(cell, name, op, roles)]
    total = 33_000_000
    return Audit(
        operands=tuple(operands),
        macs=total,
        quantised_macs=0 if cell.is_float else total - 120_000 * (1 + len(violations)),
        float_operands=tuple(f"{o.module}.{o.role}" for o in operands if o.bits is None),
        violations=violations,
    )


def make_costs(cell: Cell) -> Costs:
    """Return plausible costs."""
    weights = cell.bit_spec.weights
    noise = zlib.crc32(cell.id.encode()) % 100 / 100
    return Costs(
        quantise_s=0.0 if cell.is_float else 1.2 + noise,
        evaluate_s=6.0 + noise,
        total_s=9.0 + noise,
        peak_host_mib=812.0,
        peak_device_mib=None,
        model_mib=round(0.16 * weights + 0.3, 3),
        bit_operations=33_000_000 * weights * cell.bit_spec.activations,
    )


def make_cards(names: Iterable[str] = METHODS) -> dict[str, MethodCard]:
    """Return the cards of the methods."""
    return {name: make_card(name) for name in names}


def make_card(name: str, **changes: Any) -> MethodCard:
    """Return one method's card, with the given fields changed."""
    title, fidelity, category = METHODS.get(name, (name, "paper", "ptq"))
    fields: dict[str, Any] = {
        "name": name,
        "title": title,
        "summary": f"What {title} does, in a line.\n\nAnd a second paragraph with the details of its ranges.",
        "fidelity": fidelity,
        "inferred": ("the number of candidate ranges",) if fidelity == "inferred" else (),
        "category": category,
        "paper": "" if name == "float" else f"{title}, ICCV 2023, arXiv 2212.08254",
        "source_hash": sha256(name.encode()),
    }
    return MethodCard(**(fields | changes))


def realistic_records() -> list[Record]:
    """Return three models x six methods x four bit specs x three seeds, with the accidents that happen."""
    records = []
    for model, reference in FLOAT_SCORES.items():
        common = {"model": model, "checkpoint": sha256(model.encode())}
        float_cell = make_cell(**common, method="float", bits="W32A32", calibration_size=0, calibration_list="")
        records.append(make_record(float_cell, score=reference, float_score=reference, fidelity="reference"))
        for method in LOSSES:
            for bits in ("W8A8", "W6A6", "W4A4", "W3A3"):
                for seed in range(3):
                    cell = make_cell(**common, method=method, source=sha256(method.encode()), bits=bits, seed=seed)
                    records.append(_outcome(cell, reference))
    return records


def realistic_board() -> Board:
    """Return the board of `realistic_records`."""
    return Board.from_records(realistic_records(), make_cards(), noises=PlantedNoise())


def _outcome(cell: Cell, reference: float) -> Record:
    slot = (cell.model, cell.method, cell.bits)
    if slot == ("mobilevit_mini", "repq_vit", "W3A3"):
        return make_record(cell, failure="unsupported")
    if slot == ("swin_mini", "psaq", "W3A3") and cell.seed == 1:
        return make_record(cell, failure="out_of_memory")
    noise = zlib.crc32(repr((*slot, cell.seed)).encode()) % 1000 / 1000 - 0.5
    factor = {"W8A8": 0.01, "W6A6": 0.06, "W4A4": 1.0, "W3A3": 2.4}[cell.bits]
    score = round(max(reference - LOSSES[cell.method] * factor + noise * (0.3 + factor), 10.0), 4)
    passed = slot != ("mobilevit_mini", "ema", "W6A6")
    violations = ("head: 300 levels at 8 bits",) if slot == ("swin_mini", "omse", "W4A4") else ()
    notes = ("reduced: 200 of 1000 iterations",) if slot == ("vit_mini", "omse", "W6A6") else ()
    return make_record(cell, score=score, float_score=reference, passed=passed, violations=violations, notes=notes)


def _products(blocks: int) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    yield "patch_embed.proj", "conv2d", ("stem_input", "weight")
    for block in range(blocks):
        yield f"blocks.{block}.attn.qkv", "linear", ("input", "weight")
        yield f"blocks.{block}.attn.scores", "matmul", ("query", "key")
        yield f"blocks.{block}.attn.mix", "matmul", ("softmax", "value")
        yield f"blocks.{block}.attn.proj", "linear", ("input", "weight")
        yield f"blocks.{block}.mlp.fc1", "linear", ("input", "weight")
        yield f"blocks.{block}.mlp.fc2", "linear", ("input", "weight")
    yield "head", "linear", ("input", "weight")


def _operands(cell: Cell, module: str, op: str, roles: tuple[str, ...]) -> Iterable[OperandAudit]:
    for role in roles:
        bits = 8 if role == "stem_input" else cell.bit_spec.width("weight" if role == "weight" else "input")
        kept_float = cell.is_float or (cell.method == "ema" and module == "head")
        yield OperandAudit(
            module=module,
            op=op,
            role=role,
            bits=None if kept_float else bits,
            granularity="" if kept_float else "channel" if role == "weight" else "tensor",
            quantizer="" if kept_float else "LogSqrt2" if role == "softmax" else "Uniform",
            levels=0 if kept_float else 2**bits - 1,
            grid=0 if kept_float else 2**bits,
            macs=100_000,
        )
