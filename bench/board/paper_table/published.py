"""A paper's own table: its published numbers, with the measured ones beside them where there are any."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.claim_verdicts import Verdict, verdicts
from vitptq.bench.board.paper_table.layout import Line, PaperTable, Section, Value
from vitptq.bench.board.tables import more_bits_first
from vitptq.bench.contracts.task import Metric
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.results.claim_names import Names
from vitptq.bench.results.claims import EDITION, Claim

FLOAT_WIDTH = "32"


def table_name(claim: Claim) -> str:
    """Return what `--paper` calls the table of a claim.

    >>> from types import SimpleNamespace
    >>> table_name(SimpleNamespace(reported_in="APHQ-ViT (CVPR25)", table="T1"))
    'aphq-vit:table1'
    >>> table_name(SimpleNamespace(reported_in="I&S-ViT (TPAMI25)", table="README Results"))
    'i-s-vit:readme-results'
    """
    paper = _slug(claim.reported_in.partition(" (")[0])
    number = re.fullmatch(r"(?:T|Table )(\d+)", claim.table)
    return f"{paper}:table{number[1]}" if number else f"{paper}:{_slug(claim.table)}"


def table_names(claims: Iterable[Claim]) -> list[str]:
    """Return the names of all tables that the claims are from."""
    return sorted({table_name(claim) for claim in claims})


def published_table(name: str, claims: Sequence[Claim], names: Names, board: Board | None = None) -> PaperTable:
    """Return a paper's own table; each value is claimed, and measured where `board` has its row.

    Raises UnknownName where no claim is from the table, BadInput where its numbers are of several tasks.
    """
    own = [claim for claim in claims if table_name(claim) == name]
    if not own:
        raise UnknownName("table of published numbers", name, table_names(claims))
    tasks = sorted({claim.task for claim in own})
    if len(tasks) > 1:
        raise BadInput(f"{name} has numbers of {', '.join(tasks)}, which do not go into one table")
    models = list(dict.fromkeys(claim.whole_model for claim in own))
    metrics = _metrics(own)
    cells: dict[tuple[str, str], dict[tuple[str, str], Value]] = {}
    for verdict in verdicts(own, names, board):
        claim = verdict.claim
        line = cells.setdefault((_width(claim), claim.method), {})
        line[claim.whole_model, claim.metric] = _value(verdict)
    columns = [(model, metric.name) for model in models for metric in metrics]
    widths = sorted({width for width, _ in cells}, key=_order)
    sections = [
        Section(width, tuple(_line(method, line, columns) for (w, method), line in cells.items() if w == width))
        for width in widths
    ]
    first = own[0]
    return PaperTable(
        task=first.task,
        edition=EDITION,
        models=tuple(models),
        metrics=tuple(metric.title for metric in metrics),
        sections=tuple(sections),
        methods=tuple(dict.fromkeys(a.method for claim in own if (a := names.adapter(claim)) is not None)),
        source=f"{first.reported_in}, {first.table}",
    )


def _value(verdict: Verdict) -> Value:
    """Return a published number, with the score that was measured for it where there is one."""
    interval = verdict.row.interval_of(verdict.metric) if verdict.row and verdict.metric else None
    half = interval.half_width if interval else None
    return Value(verdict.measured, half, claimed=(verdict.claim.value,))


def _line(method: str, line: Mapping[tuple[str, str], Value], columns: Sequence[tuple[str, str]]) -> Line:
    return Line(method, tuple(line.get(column, Value()) for column in columns))


def _metrics(claims: Sequence[Claim]) -> list[Metric]:
    """Return the table's metrics, as its task declares them."""
    present = {claim.metric for claim in claims}
    declared = registry.task(claims[0].task, EDITION).metrics
    return [metric for metric in declared if metric.name in present]


def _width(claim: Claim) -> str:
    if claim.w_bits == claim.a_bits == FLOAT_WIDTH:
        return "Float"
    softmax = f", attention {claim.softmax_bits}" if claim.softmax_bits not in ("", claim.a_bits) else ""
    return f"W{claim.w_bits}A{claim.a_bits}{softmax}"


def _order(width: str) -> tuple[object, ...]:
    """Sort float first, then more bits, then what is no whole number."""
    if width == "Float":
        return (0, (), width)
    try:
        return (1, more_bits_first(BitSpec.parse(width.partition(",")[0])), width)
    except BadInput:
        return (2, (), width)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
