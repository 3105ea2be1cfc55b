"""The board as text: a table for the terminal, CSV and JSON of everything, LaTeX for a paper."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import pandas as pd
from pydantic import JsonValue

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board, Row, Table, drop_of, metric_title, share_of, why_apart
from vitptq.bench.board.statistics import Interval
from vitptq.bench.errors import UnknownName
from vitptq.bench.results.cell import canonical_json
from vitptq.bench.results.record import Record

Format = Literal["table", "csv", "latex", "json", "markdown"]
FORMATS: tuple[Format, ...] = ("table", "csv", "latex", "json", "markdown")
SCHEMA_VERSION = 1

_LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # straight quotes need a font encoding that not every paper loads
}


def render(board: Board, format: Format) -> str:
    """Return the board in one of the text formats, ending in a newline."""
    writers: dict[str, Callable[[Board], str]] = {
        "table": as_table, "csv": as_csv, "latex": as_latex, "json": as_json, "markdown": as_markdown,
    }  # fmt: skip
    if format not in writers:
        raise UnknownName("format", format, writers)
    return writers[format](board)


def as_csv(board: Board) -> str:
    """Return every row with plain numbers; a cell without a value is empty, and text never starts a formula."""
    lines = [{name: _csv_cell(value) for name, value in columns(row).items()} for row in board.rows]
    frame = pd.DataFrame(lines, columns=_COLUMNS, dtype=object)  # object: integers stay integers beside empty cells
    return str(frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL))


def as_json(board: Board) -> str:
    """Return every row with every seed behind it; a value that is not known is null."""
    rows = [{**columns(row), "runs": [_run(row, r) for r in (*row.records, *row.outdated)]} for row in board.rows]
    document = {"schema_version": SCHEMA_VERSION, "records": board.records, "rows": rows}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def as_latex(board: Board) -> str:
    """Return one complete booktabs table per task and model; needs the package booktabs."""
    return "\n".join(latex_table(table) for table in board.tables if table.counted)


def as_markdown(board: Board) -> str:
    """Return methods x bit specs of each model as Markdown: score, half of its 95 % interval, number of seeds."""
    return "\n".join("\n".join(_markdown_table(table)) for table in board.tables if table.counted)


def as_table(board: Board) -> str:
    """Return plain text tables, as good in a log file as on a terminal."""
    if not board.tables:
        return "no records yet; run a suite first, for example: vitptq run quick\n"
    return "\n".join("\n".join(_text_table(table)) for table in board.tables)


def columns(row: Row) -> dict[str, JsonValue]:
    """Return one row's values by column name: what CSV and JSON hold. A score is there only if it counts."""
    cell, interval = row.cell, row.interval
    return {
        "task": cell.task,
        "edition": cell.edition,
        "model": cell.model,
        "method": cell.method,
        "title": row.card.title,
        "category": row.card.category,
        "fidelity": row.card.fidelity,
        "parameters": canonical_json(cell.parameters),
        "bits": cell.bits,
        "weight_bits": row.bits.weights,
        "activation_bits": row.bits.activations,
        "track": cell.track,
        "calibration_size": cell.calibration_size,
        "status": status(row),
        "metric": row.metric or None,
        "score": number(row.score),
        "interval_low": number(interval.low if interval else None),
        "interval_high": number(interval.high if interval else None),
        "interval_covers": interval.covers if interval else None,
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
        "bit_operations": number(row.cost("bit_operations")),
        "remarks": "; ".join(badge.text for badge in row.badges) or None,
        "reason": reason(row) or None,
        "data": cell.data,
        "checkpoint": cell.checkpoint,
        "source": cell.source,
        "records": _listed(r.id for r in row.records),
    }


def status(row: Row) -> str:
    """Return what became of a row: counted, incomplete, not counted, unsupported or failed."""
    if row.counted:
        return "incomplete" if row.missing_seeds else "counted"
    if row.apart:
        return "not counted"
    kinds = {r.failure.kind for r in row.failed if r.failure}
    return "unsupported" if kinds == {"unsupported"} else "failed"


def reason(row: Row) -> str:
    """Say why seeds of a row do not count; empty where all do."""
    apart = [f"seed {r.cell.seed}: {why_apart(r)}" for r in row.apart]
    failed = [f"seed {r.cell.seed}: {r.failure.kind}: {r.failure.message}" for r in row.failed if r.failure]
    outdated = [f"seed {r.cell.seed}: measured with an older version only" for r in row.outdated]
    return "; ".join([*apart, *failed, *outdated])


def number(value: float | None) -> float | int | None:
    """Return a number as every export writes it: six decimals, never minus zero, whole counts as integers."""
    if value is None:
        return None
    rounded = round(value, 6) + 0.0
    return int(rounded) if rounded.is_integer() and abs(rounded) >= 1000 else rounded


def latex_escape(text: str) -> str:
    r"""Return text that LaTeX prints as it is, on one line.

    >>> print(latex_escape("50% of A_1 {x}"))
    50\% of A\_1 \{x\}
    """
    return "".join(_LATEX_ESCAPES.get(c, c) for c in plain(text))


def plain(text: str) -> str:
    """Return text without control characters and line breaks: nothing that moves a cursor or hides its neighbour."""
    spaced = " ".join(text.split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in spaced)


def latex_table(table: Table) -> str:
    """Return methods x bit specs of one model as a floating booktabs table."""
    bits = [b for b in table.bit_specs if table.at(b)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_caption(table)}}}",
        rf"\label{{tab:vitptq-{table.id[:12]}}}",
        rf"\begin{{tabular}}{{l{'r' * len(bits)}}}" if bits else r"\begin{tabular}{lr}",
        r"\toprule",
        " & ".join(["Method", *map(str, bits)] if bits else ["Method", "Score"]) + r" \\",
        r"\midrule",
        *(_latex_float(row, max(len(bits), 1)) for row in table.floats),
        *([r"\midrule"] if table.floats and bits else []),
        *(_latex_line(line, bits, table) for line in table.lines if any(row.counted for row in line)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_caption(table: Table) -> str:
    images = sorted({row.images for row in table.counted})
    what = f"{metric_title(table.metric)} (\\%) of {latex_escape(table.model)} on {latex_escape(table.task)}"
    how = "mean over seeds, with half of the 95\\,\\% interval; n = " + ", ".join(map(str, images)) + " images"
    remarks = [
        "Bold: highest of its column, where no other interval overlaps its own. The intervals are those of each score "
        "alone, not of paired differences."
    ]
    if any(_has_one_seed(row) for row in table.quantised):
        remarks.append("$^{1}$: one seed; the interval covers the images only.")
    if any(_is_marked(row) for row in table.quantised):
        remarks.append(r"$^{\dagger}$: the board carries a remark (missing seeds, audit, data).")
    return f"{what} ({latex_escape(table.edition)} edition): {how}. {' '.join(remarks)}"


def _latex_float(row: Row, width: int) -> str:
    return rf"{latex_escape(row.label)} & \multicolumn{{{width}}}{{c}}{{{_latex_score(row)}}} \\"


def _latex_line(line: Sequence[Row], bits: Sequence[BitSpec], table: Table) -> str:
    by_bits = {row.bits: row for row in line if row.counted}
    scores = []
    for b in bits:
        row = by_bits.get(b)
        text = "--" if row is None else _latex_score(row)
        scores.append(rf"\textbf{{{text}}}" if row is not None and table.stands_out(row) else text)
    return " & ".join([latex_escape(line[0].label), *scores]) + r" \\"


def _latex_score(row: Row) -> str:
    half = rf"\,{{\scriptsize$\pm${row.interval.half_width:.2f}}}" if row.interval else ""
    one = "$^{1}$" if _has_one_seed(row) else ""
    mark = r"$^{\dagger}$" if _is_marked(row) else ""
    return f"{row.score:.2f}{half}{one}{mark}" if row.score is not None else "--"


def _has_one_seed(row: Row) -> bool:
    return len(row.seeds) == 1 and not row.is_float


def _is_marked(row: Row) -> bool:
    return any(badge.tone != "info" for badge in row.badges)


def _markdown_table(table: Table) -> Iterable[str]:
    bits = [b for b in table.bit_specs if table.at(b)]
    floats = ", ".join(f"{row.score:.2f}" for row in table.floats if row.score is not None) or "not measured"
    yield f"**{markdown(table.model)}** ({markdown(table.task)}/{markdown(table.edition)}), float {floats}"
    yield ""
    yield "| " + " | ".join(["method", *map(str, bits)]) + " |"
    yield "|---|" + "---:|" * len(bits)
    for line in table.lines:
        by_bits = {row.bits: row for row in line if row.counted}
        if by_bits:
            cells = [_markdown_score(by_bits.get(b)) for b in bits]
            yield "| " + " | ".join([markdown(line[0].label), *cells]) + " |"
    yield ""


def _markdown_score(row: Row | None) -> str:
    if row is None or row.score is None:
        return "–"
    return f"{row.score:.2f}" + (f" ± {row.interval.half_width:.2f}" if row.interval else "") + f" ({len(row.seeds)})"


def markdown(text: str) -> str:
    """Return text that Markdown prints as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|-])", r"\\\1", plain(text))


def _text_table(table: Table) -> Iterable[str]:
    title = f"{table.task}/{table.edition} · {table.model} · {metric_title(table.metric)}, percent"
    yield plain(title)
    yield from _aligned([_HEADER, *(_text_line(row) for row in table.counted)])
    for row in table.rows:
        for record in row.apart:
            yield "  " + plain(f"not counted: {row.label} {row.bits} seed {record.cell.seed}: {why_apart(record)}")
        for record in row.failed:
            failure = f"{record.failure.kind}: {record.failure.message}" if record.failure else ""
            yield "  " + plain(f"no score: {row.label} {row.bits} seed {record.cell.seed}: {failure}")
    yield ""


_HEADER = ("method", "bits", "score", "95 % interval", "drop", "seeds", "quantise s", "evaluate s", "MiB", "remarks")
_LEFT_ALIGNED = (0, 1, len(_HEADER) - 1)


def _text_line(row: Row) -> tuple[str, ...]:
    return (
        plain(row.label),
        str(row.bits) if not row.is_float else "float",
        _fixed(row.score, 2),
        _range(row.interval),
        _fixed(row.drop, 2, sign=True),
        f"{len(row.seeds)}/{len(row.expected_seeds)}",
        _fixed(row.cost("quantise_s"), 1),
        _fixed(row.cost("evaluate_s"), 1),
        _fixed(row.cost("model_mib"), 2),
        plain(", ".join(badge.text for badge in row.badges)),
    )


def _aligned(lines: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    for line in (lines[0], rule, *lines[1:]):
        columns_ = enumerate(zip(line, widths, strict=True))
        cells = [text.ljust(width) if i in _LEFT_ALIGNED else text.rjust(width) for i, (text, width) in columns_]
        yield ("  " + "  ".join(cells)).rstrip()


def _fixed(value: float | None, digits: int, *, sign: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"


def _range(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}"


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
        "drop": number(drop_of(record)),
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


def _listed(values: Iterable[object]) -> str:
    return " ".join(map(str, values))


def _csv_cell(value: JsonValue) -> JsonValue:
    # A spreadsheet runs text that starts like a formula; numbers are not text and keep their sign.
    if isinstance(value, str):
        text = value.replace("\r\n", "\n").replace("\r", "\n")
        return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text
    return value


_COLUMNS = [
    "task", "edition", "model", "method", "title", "category", "fidelity", "parameters", "bits", "weight_bits",
    "activation_bits", "track", "calibration_size", "status", "metric", "score", "interval_low", "interval_high",
    "interval_covers", "n_images", "n_seeds", "seeds", "missing_seeds", "float_score", "drop", "quantised_macs_percent",
    "audit_violations", "quantise_s", "evaluate_s", "peak_host_mib", "peak_device_mib", "model_mib", "bit_operations",
    "remarks", "reason", "data", "checkpoint", "source", "records",
]  # fmt: skip
