"""The question box of the overview: which method for this task, model and bit width, with its cost and its standing.

One answer stands on the page as a table; the others are data beside it, from which a script fills that table in. Their
number is bounded, so that the page stays small: whatever is not among them has a link to the page of all answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table, more_bits_first
from vitptq.bench.website.answers import Answer
from vitptq.bench.website.formatting import fixed, signed
from vitptq.bench.website.paths import answer_id, method_path, run_path, table_path

MOST_ROWS = 60
"""Rows of all answers together that the overview carries."""
MOST_CHOICES = 150
"""Models and bit widths that it offers; the page of answers has all."""
SHOWN = 5
"""Rows of one answer; the page of answers has the rest."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything that nothing is shown to beat, at one bit width of one model."""

    table: Table
    bits: BitSpec
    rows: tuple[Row, ...]

    @property
    def id(self) -> str:
        """Return its anchor on the page of all answers."""
        return answer_id(self.table, self.bits)

    @property
    def shown(self) -> tuple[Row, ...]:
        """Return the rows that the overview shows."""
        return self.rows[:SHOWN]

    @property
    def more(self) -> int:
        """Return how many rows it leaves to the page of answers."""
        return len(self.rows) - len(self.shown)


def replies(answers: Iterable[Answer], groups: Sequence[tuple[str, str, tuple[Table, ...]]]) -> tuple[Reply, ...]:
    """Return the answers by model and bit width; tasks and editions in the order of `groups`."""
    grouped = itertools.groupby(answers, key=lambda answer: (answer.table, answer.bits))
    made = (Reply(table, bits, tuple(a.row for a in group)) for (table, bits), group in grouped)
    order = {(task, edition): place for place, (task, edition, _) in enumerate(groups)}
    return tuple(sorted(made, key=lambda reply: order[reply.table.task, reply.table.edition]))


def first_reply(found: Sequence[Reply]) -> Reply | None:
    """Return the answer that the page shows at first: of the first task the model and bits with most methods."""
    if not found:
        return None
    task, edition = found[0].table.task, found[0].table.edition
    there = [reply for reply in found if (reply.table.task, reply.table.edition) == (task, edition)]
    return max(there, key=lambda reply: (_rivals(reply.table, reply.bits), more_bits_first(reply.bits)))


def busiest_bits(table: Table) -> BitSpec | None:
    """Return the dense bit width at which most methods can be compared; of several the one with the fewest bits."""
    specs = [bits for bits in table.bit_specs if not bits.own_category]
    return max(specs, key=lambda bits: (_rivals(table, bits), more_bits_first(bits)), default=None)


def as_data(found: Sequence[Reply]) -> dict[str, JsonValue]:
    """Return what the script needs, each name once: tables, methods, and the answers as text that is ready to be shown.

    A choice is (table, bits, anchor, about, how many rows are left out, rows); without room for its rows it ends with
    the anchor, which leads to the page of all answers.
    """
    tables: dict[str, list[JsonValue]] = {}
    labels: dict[tuple[str, str], list[JsonValue]] = {}
    choices: list[JsonValue] = []
    room = MOST_ROWS
    for reply in found[:MOST_CHOICES]:
        place = f"{reply.table.task}, {reply.table.edition}"
        tables.setdefault(reply.table.id, [len(tables), place, reply.table.model, table_path(reply.table)])
        choice: list[JsonValue] = [tables[reply.table.id][0], str(reply.bits), reply.id]
        if len(reply.shown) <= room:
            room -= len(reply.shown)
            rows: list[JsonValue] = []
            for label, path, *texts in (cells(row) for row in reply.shown):
                number = labels.setdefault((label, path), [len(labels), label, path])[0]
                rows.append([number, *texts])
            choice += [about(reply), reply.more, rows]
        choices.append(choice)
    return {
        "tables": [table[1:] for table in tables.values()],
        "methods": [method[1:] for method in labels.values()],
        "choices": choices,
    }


def about(reply: Reply) -> str:
    """Say what an answer rests on."""
    compared = len(reply.table.groups(reply.bits).rows)
    unknown = len(reply.table.uncompared(reply.bits))
    if not reply.table.winners(reply.bits) or compared == 1:
        said = "the highest mean, compared with no other" if compared + unknown > 1 else "the only method measured"
    elif len(reply.rows) == 1:
        said = f"better than {_others(compared - 1)}"
    else:
        said = f"{len(reply.rows)} of {compared} methods, which paired tests do not tell apart from the highest"
    if unknown and compared > 1:
        said += f", {unknown} not compared"
    reference = f"; float {reply.table.floats[0].score:.2f}" if reply.table.floats else ""
    return f"{reply.table.metric.title}: {said}{reference}"


def _others(count: int) -> str:
    return "the one other" if count == 1 else f"all {count} others"


def cells(row: Row) -> Iterator[str]:
    """Yield the label, the two addresses and the texts of a row of an answer."""
    seconds = row.cost("quantise_s")
    yield row.label
    yield method_path(row.cell.method)
    yield run_path(row)
    yield fixed(row.score)
    yield f"{fixed(row.interval.low)} to {fixed(row.interval.high)}" if row.interval else ""
    yield signed(row.drop)
    yield duration(seconds)
    yield f"{fixed(row.cost('model_mib'), 1)} MiB"
    yield _draws(row)
    yield f"fidelity: {row.fidelity or 'not known'}"


def duration(seconds: float | None) -> str:
    """Return a time as people say it.

    >>> duration(0.42), duration(75.0), duration(7300.0), duration(None)
    ('0.4 s', '75 s', '2.0 h', '–')
    """
    if seconds is None:
        return fixed(None)
    for limit, unit, size, digits in ((10, "s", 1, 1), (120, "s", 1, 0), (3600, "min", 60, 0)):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _draws(row: Row) -> str:
    missing = f" of {len(row.expected_seeds)}" if row.missing_seeds else ""
    return f"{len(row.seeds)}{missing} draw{'' if len(row.expected_seeds) == 1 else 's'}"


def _rivals(table: Table, bits: BitSpec) -> int:
    return sum(row.comparable for row in table.at(bits))
