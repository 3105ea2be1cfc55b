"""LaTeX: methods x bit specs of each model as booktabs tables, for a paper."""

from __future__ import annotations

from collections.abc import Sequence

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.exports.words import BETWEEN, plain, titles
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.contracts.task import Metric

_ESCAPES = {
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


_TIED = r"$^{\ast}$"


def as_latex(board: Board) -> str:
    """Return one complete booktabs table per task and model; needs the package booktabs."""
    return "\n".join(latex_table(table) for table in board.tables if table.counted)


def latex_table(table: Table) -> str:
    """Return methods x bit specs of one model as a floating booktabs table: a column per bit spec and metric."""
    bits = [b for b in table.bit_specs if table.at(b)]
    metrics = (table.metric, *table.secondary)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(table, metrics)}}}",
        rf"\label{{tab:vitptq-{table.id[:12]}}}",
        rf"\begin{{tabular}}{{l{'r' * len(bits) * len(metrics)}}}" if bits else r"\begin{tabular}{lr}",
        r"\toprule",
        *(
            heading(list(map(str, bits)), [latex_escape(metric.title) for metric in metrics])
            if bits
            else [r"Method & Score \\"]
        ),
        r"\midrule",
        *(_float_line(row, metrics, max(len(bits) * len(metrics), 1)) for row in table.floats),
        *([r"\midrule"] if table.floats and bits else []),
        *(_line(line, bits, table, metrics) for line in table.lines if any(row.counted for row in line)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_escape(text: str) -> str:
    r"""Return text that LaTeX prints as it is, on one line.

    >>> print(latex_escape("50% of A_1 {x}"))
    50\% of A\_1 \{x\}
    """
    return "".join(_ESCAPES.get(c, c) for c in plain(text))


def _caption(table: Table, metrics: Sequence[Metric]) -> str:
    images = sorted({row.images for row in table.counted})
    what = f"{latex_escape(titles(metrics))} (\\%) of {latex_escape(table.model)} on {latex_escape(table.task)}"
    how = "mean over seeds, with half of the 95\\,\\% interval; n = " + ", ".join(map(str, images)) + " images"
    highest = "highest" if len(metrics) == 1 else f"highest {latex_escape(table.metric.title)}"
    remarks = [
        f"Bold: {highest} of its column, shown to be better than every other by paired tests that are corrected "
        "together (Holm). The intervals are those of each score alone, not of paired differences."
    ]
    parts = [text for bits in table.bit_specs if (text := table.bits_text(bits)) != str(bits)]
    if parts:
        remarks.append(latex_escape(f"Quantised: {', '.join(parts)}.").replace("MACs", "multiply-accumulates"))
    if any(len(table.winners(bits)) > 1 for bits in table.bit_specs):
        remarks.append(f"{_TIED}: not shown to be worse than the highest of its column.")
    if any(_has_one_seed(row) for row in table.quantised):
        remarks.append("$^{1}$: one seed; the interval covers the images only.")
    remarks += [latex_escape(note) for note in table.comparison_notes]
    if any(_is_marked(row) for row in table.quantised):
        remarks.append(r"$^{\dagger}$: the board carries a remark (missing seeds, audit, data).")
    return f"{what} ({latex_escape(table.edition)} edition): {how}. {' '.join(remarks)}"


def heading(columns: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Return one line of columns; where each has several metrics, a second one with these. All is escaped already."""
    if len(metrics) == 1:
        return [" & ".join(["Method", *columns]) + r" \\"]
    width = len(metrics)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{column}}}" for column in columns]
    rules = [rf"\cmidrule(lr){{{2 + i * width}-{1 + (i + 1) * width}}}" for i in range(len(columns))]
    under = [*metrics] * len(columns)
    return [" & ".join(["", *groups]) + r" \\", "".join(rules), " & ".join(["Method", *under]) + r" \\"]


def _float_line(row: Row, metrics: Sequence[Metric], width: int) -> str:
    scores = BETWEEN.join([*(_score(row, metric) for metric in metrics)])
    return rf"{latex_escape(row.label)} & \multicolumn{{{width}}}{{c}}{{{scores}{_marks(row)}}} \\"


def _line(line: Sequence[Row], bits: Sequence[BitSpec], table: Table, metrics: Sequence[Metric]) -> str:
    by_bits = {row.bits: row for row in line if row.counted}
    scores = [cell for b in bits for cell in _cells(by_bits.get(b), table, metrics)]
    return " & ".join([latex_escape(line[0].label), *scores]) + r" \\"


def _cells(row: Row | None, table: Table, metrics: Sequence[Metric]) -> list[str]:
    """Return a row's scores, the ranking one with its marks, bold where it stands out."""
    if row is None:
        return ["--"] * len(metrics)
    tied = len(table.winners(row.bits)) > 1 and row in table.winners(row.bits)
    first = _score(row, metrics[0]) + (_TIED if tied else "") + _marks(row)
    return [rf"\textbf{{{first}}}" if table.stands_out(row) else first, *(_score(row, m) for m in metrics[1:])]


def _score(row: Row, metric: Metric) -> str:
    score, interval = row.mean(metric), row.interval_of(metric)
    half = rf"\,{{\scriptsize$\pm${interval.half_width:.2f}}}" if interval else ""
    return "--" if score is None else f"{score:.2f}{half}"


def _marks(row: Row) -> str:
    one = "$^{1}$" if _has_one_seed(row) else ""
    return one + (r"$^{\dagger}$" if _is_marked(row) else "") if row.score is not None else ""


def _has_one_seed(row: Row) -> bool:
    return len(row.seeds) == 1 and not row.is_float


def _is_marked(row: Row) -> bool:
    return any(badge.tone != "info" for badge in row.badges)
