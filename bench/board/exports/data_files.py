"""CSV and JSON: every row with every number behind it, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydantic import JsonValue

from vitptq.bench.board.board import Board
from vitptq.bench.board.rows import Row, share_of, why_apart
from vitptq.bench.board.tables import Table
from vitptq.bench.contracts.task import Metric
from vitptq.bench.results.cell import canonical_json
from vitptq.bench.results.record import Record

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
_FORMULA = tuple("=+-@＝＋－＠")
"""A spreadsheet runs text that starts like this; some read the wide forms, too."""


def as_csv(board: Board) -> str:
    """Return every row with plain numbers; a cell without a value is empty, and text never starts a formula."""
    return str(as_frame(board).map(_csv_cell).to_csv(index=False, lineterminator="\n"))


def as_frame(board: Board) -> pd.DataFrame:
    """Return one line per row of the board, for analysis with pandas; integers stay integers beside empty cells.

    Behind the columns that every row has stand three for each metric that is not the ranking one of every task.
    """
    import pandas as pd  # takes half a second, which a command that prints a table need not wait for

    more = _secondary_names(board.rows)
    lines = [columns(row, table) | _scores_in_columns(row, more) for table in board.tables for row in table.rows]
    return pd.DataFrame(lines, columns=[*_COLUMNS, *_score_columns(more)], dtype=object)


def as_json(board: Board) -> str:
    """Return every row with every seed behind it; a value that is not known is null."""
    rows = (_row(row, table) for table in board.tables for row in table.rows)
    head = _dumped({"records": board.records, "rows": [], "schema_version": SCHEMA_VERSION})
    before, after = head.split("[]")
    # row by row: as one document, those of thousands of rows would be in memory together
    lines = ",\n".join("  " + _dumped(row).replace("\n", "\n  ") for row in rows)
    return f"{before}[\n{lines}\n ]{after}\n" if lines else f"{head}\n"


def _row(row: Row, table: Table) -> dict[str, JsonValue]:
    return {
        **columns(row, table),
        "scores": {metric.name: _score(row, metric) for metric in row.scored},
        "runs": [_run(row, r) for r in (*row.records, *row.outdated)],
    }


def _dumped(value: JsonValue) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)


def columns(row: Row, table: Table) -> dict[str, JsonValue]:
    """Return one row's values by column name: what CSV and JSON hold. A score is there only if it counts."""
    cell, interval, rank = row.cell, row.interval, table.rank(row)
    return {
        "task": cell.task,
        "edition": cell.edition,
        "model": cell.model,
        "method": cell.method,
        "title": row.card.title,
        "category": row.card.category,
        "fidelity": row.fidelity,
        "parameters": canonical_json(cell.parameters),
        "bits": cell.bits,
        "weight_bits": row.bits.weights,
        "activation_bits": row.bits.activations,
        "track": cell.track,
        "precision": cell.precision,
        "calibration_size": cell.calibration_size,
        "status": row.status,
        "metric": row.metric.name if row.scored else None,
        "score": number(row.score),
        "interval_low": number(interval.low if interval else None),
        "interval_high": number(interval.high if interval else None),
        "interval_covers": interval.covers if interval else None,
        "rank_best": rank.best if rank else None,
        "rank_worst": rank.worst if rank else None,
        "tie_group": table.group(row) or None,
        "n_images": row.images or None,
        "n_seeds": len(row.seeds),
        "seeds": _listed(row.seeds),
        "missing_seeds": _listed(row.missing_seeds),
        "float_score": number(row.float_score),
        "drop": number(row.drop),
        "quantised_macs_percent": number(row.quantised_share),
        "audit_violations": len(row.violations) if row.counted else None,
        "quantise_s": number(row.cost("quantise_s")),
        "evaluate_s": number(row.cost("evaluate_s")),
        "peak_host_mib": number(row.cost("peak_host_mib")),
        "peak_device_mib": number(row.cost("peak_device_mib")),
        "model_mib": number(row.cost("model_mib")),
        "n_parameters": row.parameters,
        "macs": row.macs,
        "bit_operations": number(row.cost("bit_operations")),
        "remarks": "; ".join(badge.text for badge in row.badges) or None,
        "reason": row.reason or None,
        "data": cell.data,
        "checkpoint": cell.checkpoint,
        "source": cell.source,
        "records": _listed(r.id for r in row.records),
    }


_COLUMNS = [
    "task", "edition", "model", "method", "title", "category", "fidelity", "parameters", "bits", "weight_bits",
    "activation_bits", "track", "precision", "calibration_size", "status", "metric", "score",
    "interval_low", "interval_high", "interval_covers", "rank_best", "rank_worst", "tie_group", "n_images", "n_seeds",
    "seeds", "missing_seeds", "float_score", "drop", "quantised_macs_percent",
    "audit_violations", "quantise_s", "evaluate_s", "peak_host_mib", "peak_device_mib", "model_mib", "n_parameters",
    "macs", "bit_operations",
    "remarks", "reason", "data", "checkpoint", "source", "records",
]  # fmt: skip
"""The columns of every row, in their order: a board without rows has them, too."""


def _secondary_names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(metric.name for row in rows for metric in row.scored if metric is not row.metric))


def _score_columns(names: Iterable[str]) -> list[str]:
    return [f"{what}_{name}" for name in names for what in ("score", "interval_low", "interval_high")]


def _scores_in_columns(row: Row, names: Sequence[str]) -> dict[str, JsonValue]:
    """Return the row's scores called `names` with their intervals, by column; None where the row has no such score."""
    found = {metric.name: metric for metric in row.scored}
    values: list[JsonValue] = []
    for name in names:
        score = _score(row, found[name]) if name in found else {}
        values += [score.get("score"), score.get("interval_low"), score.get("interval_high")]
    return dict(zip(_score_columns(names), values, strict=True))


def _score(row: Row, metric: Metric) -> dict[str, JsonValue]:
    interval = row.interval_of(metric)
    return {
        "title": metric.title,
        "ranks": metric is row.metric,
        "proportion": metric.proportion,
        "score": number(row.mean(metric)),
        "interval_low": number(interval.low if interval else None),
        "interval_high": number(interval.high if interval else None),
        "interval_covers": interval.covers if interval else None,
        "drop": number(row.mean_drop(metric)),
    }


def _run(row: Row, record: Record) -> dict[str, JsonValue]:
    """Return one seed's record as JSON holds it: its score even where it does not count, and why."""
    outdated = record in row.outdated
    why = why_apart(record) if record.status == "ok" and not record.counts else None
    return {
        "record": record.id,
        "seed": record.cell.seed,
        "status": record.status,
        "counts": record.counts and not outdated,
        "outdated": outdated,
        "scores": {name: number(value) for name, value in record.scores.items()},
        "n_images": record.images or None,
        "drop": number(row.drop_of(record)),
        "gate": record.gate.model_dump(mode="json") if record.gate else None,
        "why_not_counted": why,
        "failure": record.failure.model_dump(mode="json") if record.failure else None,
        "quantised_macs_percent": number(share_of(record)),
        "audit_violations": list(record.audit.violations) if record.audit else None,
        "float_operands": list(record.audit.float_operands) if record.audit else None,
        "costs": record.costs.model_dump(mode="json") if record.costs else None,
        "evidence": record.evidence.model_dump(mode="json") if record.evidence else None,
        "notes": list(record.notes),
        "provenance": record.provenance.model_dump(mode="json"),
    }


def number(value: float | None) -> float | int | None:
    """Return a number as every export writes it: six decimals, never minus zero, whole counts as integers."""
    if value is None:
        return None
    rounded = round(value, 6) + 0.0
    return int(rounded) if rounded.is_integer() and abs(rounded) >= 1000 else rounded


def _listed(values: Iterable[object]) -> str:
    return " ".join(map(str, values))


def _csv_cell(value: JsonValue) -> JsonValue:
    return csv_text(value) if isinstance(value, str) else value


def csv_text(value: str) -> str:
    """Quote text that a spreadsheet would run, also behind blanks; numbers are not text and keep their sign."""
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    seen = next((c for c in text if c.isprintable() and not c.isspace()), "")
    return f"'{text}" if seen in _FORMULA or text.startswith(("\t", "\n")) else text
