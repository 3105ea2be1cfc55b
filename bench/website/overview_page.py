"""The first page: the question, what won, why to believe it, and the tie groups of each task.

It stays under 150 KB however many records there are: it names so many models and no more, and the boards have the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.tables import Table
from vitptq.bench.website import changes_page, question
from vitptq.bench.website.formatting import named
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.pareto_charts import Panel, panels
from vitptq.bench.website.social_picture import social_picture
from vitptq.bench.website.templates import overview_bits

QUESTION = "Which method quantises a vision transformer best?"
MOST_TABLES = 15
"""Models in the tables of the overview, over all tasks."""
MOST_BITS = 5
MOST_NEWS = 5
MOST_GROUPS = 6
"""Tasks and editions with a table of their own."""
MOST_CHARTED = 3
"""Tasks and editions with charts."""


@dataclass(frozen=True, slots=True)
class Group:
    """One task and edition on the overview."""

    task: str
    edition: str
    tables: tuple[Table, ...]
    more_models: int
    bits: tuple[BitSpec, ...]
    more_bits: int
    charted: Table | None
    panels: tuple[Panel, ...]
    leaders: str


def pages(content: Content) -> Iterator[Page]:
    """Yield the overview."""
    found = question.replies(content.answers, content.groups)
    context = {
        "groups": groups(content),
        "more_groups": max(len(content.groups) - MOST_GROUPS, 0),
        "reply": question.first_reply(found),
        "choices": question.as_data(found),
        "trust": trust(content.board),
        "question": QUESTION,
        "news": news(content),
    }
    yield Page("index.html", "index.html", context)


def picture(content: Content) -> bytes:
    """Return the picture that stands beside a link to the site."""
    counts = trust(content.board)
    said = (f"{counts.methods} methods", f"{counts.models} models", f"{counts.records:,} records")
    won = [(f"{g[0]}, {g[1]}", leaders(g[2])) for g in content.groups[:MOST_GROUPS]]
    told = f"{' · '.join(said)}, every score recomputed from per-image evidence"
    return social_picture(QUESTION, [(where, what) for where, what in won if what], told)


def groups(content: Content) -> tuple[Group, ...]:
    """Return what the overview shows of each task and edition."""
    found = content.groups[:MOST_GROUPS]
    room = MOST_TABLES // max(len(found), 1)
    made = []
    for place, (task, edition, tables) in enumerate(found):
        shown = sorted(tables, key=lambda table: (-len(table.dense), table.model))[: max(room, 2)]
        specs = _shown_bits(shown)
        charted = shown[0] if place < MOST_CHARTED else None
        bits = question.busiest_bits(charted) if charted else None
        drawn = panels(charted, bits, content.style) if charted and bits else ()
        made.append(
            Group(
                task, edition, tuple(sorted(shown, key=lambda table: table.model)), len(tables) - len(shown), specs,
                len(overview_bits(tuple(shown))) - len(specs), charted, drawn, leaders(tables),
            )
        )  # fmt: skip
    return tuple(made)


def leaders(tables: Sequence[Table]) -> str:
    """Say which methods are in the first tie group of most models, at the bit width that most methods share."""
    specs = Counter(bits for table in tables for bits in {row.bits for row in table.dense} for _ in table.at(bits))
    if not specs:
        return ""
    bits = max(specs, key=lambda spec: (specs[spec], -spec.weights - spec.activations, str(spec)))
    compared = [table for table in tables if len(table.groups(bits).rows) > 1]
    firsts = Counter(title for table in compared for title in {row.card.title for row in table.winners(bits)})
    if not firsts:
        return ""
    most = max(firsts.values())
    names = named(sorted((title for title, count in firsts.items() if count == most), key=str.lower))
    models = "the one model" if len(compared) == 1 else f"{most} of {len(compared)} models"
    return f"{names} at {bits}: in the first tie group of {models}"


def news(content: Content) -> tuple[str, ...]:
    """Say in a few lines what changed last: what came out otherwise, and what is new, by day."""
    found = content.changes
    moved = [f"{item.change.day}: {item.text}" for item in found if item.change.kind != "new"][: MOST_NEWS - 2]
    for day in changes_page.days(found)[: MOST_NEWS - len(moved)]:
        rows = sum(count for *_, count in day.new)
        titles = sorted({content.board.cards[method].title for _, _, method, _ in day.new}, key=str.lower)
        moved.append(f"{day.date}: {rows} new row{'' if rows == 1 else 's'} of {named(titles)}")
    return tuple(moved)


@dataclass(frozen=True, slots=True)
class Trust:
    """Counts that say how far the numbers can be trusted."""

    methods: int
    models: int
    records: int
    rows: int
    clean: int
    """Rows without an audit violation."""
    seeds: int
    """Rows with at least three calibration draws."""
    behind_gate: int
    """Rows that have a score which counts, of those that have a score."""
    scored: int


def trust(board: Board) -> Trust:
    """Count over the quantised rows of a board."""
    scored = [row for row in board.rows if not row.is_float and (row.counted or row.apart)]
    counted = [row for row in scored if row.counted]
    return Trust(
        methods=sum(card.category != "float" for card in board.cards.values()),
        models=len(board.tables),
        records=board.records,
        rows=len(counted),
        clean=sum(not row.violations for row in counted),
        seeds=sum(len(row.seeds) >= 3 for row in counted),
        behind_gate=len(counted),
        scored=len(scored),
    )


def _shown_bits(tables: Sequence[Table]) -> tuple[BitSpec, ...]:
    """Return the dense bit widths at which most models have rows, more bits first."""
    specs = overview_bits(tuple(tables))
    rows = Counter(row.bits for table in tables for row in table.rows if not row.bits.own_category)
    kept = {bits for bits, _ in sorted(rows.items(), key=lambda item: (-item[1], str(item[0])))[:MOST_BITS]}
    return tuple(bits for bits in specs if bits in kept)
