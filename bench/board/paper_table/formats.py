"""The formats of a paper's comparison table: LaTeX, Markdown, CSV and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vitptq.bench.board.exports.data_files import csv_text
from vitptq.bench.board.exports.latex import heading, latex_escape
from vitptq.bench.board.exports.markdown import markdown
from vitptq.bench.board.exports.words import plain
from vitptq.bench.board.paper_table.layout import PaperTable, Value

Format = Literal["latex", "markdown", "csv", "html"]
Claims = Literal["none", "beside", "instead"]
FORMATS: tuple[Format, ...] = ("latex", "markdown", "csv", "html")


@dataclass(frozen=True)
class Style:
    """How values and the caption are written."""

    decimals: int = 2
    intervals: bool = True
    claims: Claims = "none"
    caption: str = ""
    """Instead of the caption that is made from the table."""
    label: str = ""
    wide: bool = False
    """Over both columns of a two-column page."""
    footnotes: tuple[str, ...] = field(default=())
    """Sentences behind the caption."""


@dataclass(frozen=True)
class Marks:
    """How a format writes what stands beside a number."""

    bold: Callable[[str], str]
    half: Callable[[str], str]
    claimed: Callable[[str], str]
    tied: str
    one_seed: str
    remark: str
    nothing: str
    escape: Callable[[str], str]


LATEX = Marks(
    bold=lambda text: rf"\textbf{{{text}}}",
    half=lambda text: rf"\,{{\scriptsize$\pm${text}}}",
    claimed=lambda text: rf"\textit{{[{text}]}}",
    tied=r"$^{\ast}$",
    one_seed="$^{1}$",
    remark=r"$^{\dagger}$",
    nothing="--",
    escape=latex_escape,
)
MARKDOWN = Marks(
    bold=lambda text: f"**{text}**",
    half=lambda text: f" ± {text}",
    claimed=lambda text: rf"\[{text}\]",
    tied="\\*",
    one_seed="¹",
    remark="†",
    nothing="–",
    escape=markdown,
)
HTML = Marks(
    bold=lambda text: f"<strong>{text}</strong>",
    half=lambda text: f"<small> ± {text}</small>",
    claimed=lambda text: f"<em>[{text}]</em>",
    tied="<sup>*</sup>",
    one_seed="<sup>1</sup>",
    remark="<sup>†</sup>",
    nothing="–",
    escape=lambda text: html.escape(plain(text)),
)


def render(table: PaperTable, format: Format, style: Style) -> str:
    """Return the table in one of the formats, ending in a newline."""
    return {"latex": as_latex, "markdown": as_markdown, "csv": as_csv, "html": as_html}[format](table, style)


def as_latex(table: PaperTable, style: Style) -> str:
    r"""Return a complete floating table; needs booktabs and graphicx, and is made narrower where it would stand out."""
    float_name = "table*" if style.wide else "table"
    columns = len(table.models) * len(table.metrics)
    lines = [
        rf"\begin{{{float_name}}}",
        r"\centering",
        rf"\caption{{{caption(table, style, LATEX)}}}",
        rf"\label{{{style.label or f'tab:vitptq-{table.task}'}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * columns}}}",
        r"\toprule",
        *heading(list(map(latex_escape, table.models)), list(map(latex_escape, table.metrics))),
    ]
    for section in table.sections:
        lines.append(r"\midrule")
        lines.append(rf"\multicolumn{{{1 + columns}}}{{l}}{{\emph{{{latex_escape(section.title)}}}}} \\")
        for line in section.lines:
            values = [value_text(value, style, LATEX) for value in line.values]
            lines.append(" & ".join([latex_escape(line.label), *values]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}%", "}", rf"\end{{{float_name}}}"]
    return "\n".join(lines) + "\n"


def as_markdown(table: PaperTable, style: Style) -> str:
    """Return one Markdown table; the bit width is the first column."""
    heads = [markdown(head) for head in heads_of(table)]
    lines = [f"| bits | method | {' | '.join(heads)} |", "|---|---|" + "---:|" * len(heads)]
    for section in table.sections:
        for line in section.lines:
            values = [value_text(value, style, MARKDOWN) for value in line.values]
            lines.append("| " + " | ".join([markdown(section.title), markdown(line.label), *values]) + " |")
    return "\n".join([*lines, "", caption(table, style, MARKDOWN)]) + "\n"


def as_html(table: PaperTable, style: Style) -> str:
    """Return one HTML table with its caption."""
    heads = "".join(f'<th scope="col">{HTML.escape(head)}</th>' for head in heads_of(table))
    lines = ["<table>", f"<caption>{caption(table, style, HTML)}</caption>"]
    lines.append(f'<thead><tr><th scope="col">Bits</th><th scope="col">Method</th>{heads}</tr></thead>')
    for section in table.sections:
        lines.append("<tbody>")
        for line in section.lines:
            values = "".join(f"<td>{value_text(value, style, HTML)}</td>" for value in line.values)
            names = f'<td>{HTML.escape(section.title)}</td><th scope="row">{HTML.escape(line.label)}</th>'
            lines.append(f"<tr>{names}{values}</tr>")
        lines.append("</tbody>")
    return "\n".join([*lines, "</table>"]) + "\n"


def as_csv(table: PaperTable, style: Style) -> str:
    """Return plain numbers: per column the score, and half of its interval and the claims where they are asked for."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    heads = [part for head in heads_of(table) for part in _csv_parts(head, style)]
    writer.writerow(["bits", "method", *heads])
    for section in table.sections:
        for line in section.lines:
            values = [part for value in line.values for part in _csv_values(value, style)]
            writer.writerow([csv_text(plain(section.title)), csv_text(plain(line.label)), *values])
    return stream.getvalue()


def _csv_parts(head: str, style: Style) -> Iterator[str]:
    yield csv_text(plain(head))
    if style.intervals:
        yield f"{head} half interval"
    if style.claims != "none":
        yield f"{head} claimed"


def _csv_values(value: Value, style: Style) -> Iterator[str]:
    yield "" if value.score is None or style.claims == "instead" else f"{value.score:.{style.decimals}f}"
    if style.intervals:
        yield "" if value.half_width is None else f"{value.half_width:.{style.decimals}f}"
    if style.claims != "none":
        yield " ".join(f"{claim:.2f}" for claim in value.claimed)


def heads_of(table: PaperTable) -> list[str]:
    """Return the title of every column of scores."""
    if len(table.metrics) == 1:
        return list(table.models)
    return [f"{model} {metric}" for model in table.models for metric in table.metrics]


def value_text(value: Value, style: Style, marks: Marks) -> str:
    """Return one value with its marks, as a format writes it."""
    claims = marks.claimed(_range(value.claimed, style.decimals)) if value.claimed else ""
    if style.claims == "instead":
        return claims or marks.nothing
    if value.score is None:
        return claims if claims and style.claims == "beside" else marks.nothing
    number = f"{value.score:.{style.decimals}f}"
    if style.intervals and value.half_width is not None:
        number += marks.half(f"{value.half_width:.{style.decimals}f}")
    number += (marks.tied if value.tied else "") + (marks.one_seed if value.one_seed and style.intervals else "")
    number += marks.remark if value.remark else ""
    number = marks.bold(number) if value.best else number
    return f"{number} {claims}" if claims and style.claims == "beside" else number


def _range(values: Sequence[float], decimals: int) -> str:
    return "–".join(dict.fromkeys(f"{end:.{decimals}f}" for end in (values[0], values[-1])))


def caption(table: PaperTable, style: Style, marks: Marks) -> str:
    """Return the caption: what the table has, and what its marks mean; nothing that it has not."""
    own = marks.escape(style.caption) if style.caption else _what(table, style, marks)
    return " ".join([own, *_meanings(table, style, marks), *map(marks.escape, style.footnotes)])


def _what(table: PaperTable, style: Style, marks: Marks) -> str:
    scores = marks.escape(" / ".join(table.metrics))
    percent = marks.escape("%")
    if table.source:
        return f"{scores} ({percent}) on {marks.escape(table.task)}, the table of {marks.escape(table.source)}."
    what = f"{scores} ({percent}) on {marks.escape(table.task)} ({marks.escape(table.edition)} edition)"
    images = f"; n = {', '.join(map(str, table.images))} images" if table.images else ""
    how = ": mean over seeds, with half of the 95 " + percent + " interval" if style.intervals else ": mean over seeds"
    return f"{what}{how}{images}." if style.claims != "instead" else f"{what}: published numbers."


def _meanings(table: PaperTable, style: Style, marks: Marks) -> Iterator[str]:
    values = table.values
    if style.claims != "none" and any(value.claimed for value in values):
        yield f"{marks.claimed('n')}: published, not measured here; two numbers are the range of several sources."
    if style.claims == "instead":
        return
    if any(value.best for value in values):
        yield "Bold: better than every other of its column and section, by paired tests corrected together (Holm)."
    if any(value.tied for value in values):
        yield f"{marks.tied}: not shown to be worse than the highest of its column and section."
    if style.intervals and any(value.one_seed and value.score is not None for value in values):
        yield f"{marks.one_seed}: one seed; the interval covers the images only."
    if any(value.remark and value.score is not None for value in values):
        yield f"{marks.remark}: the board carries a remark (missing seeds, audit, data, code)."
    if any(value.best or value.tied for value in values):
        yield from map(marks.escape, table.notes)
