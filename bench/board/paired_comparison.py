"""Every row of a board beside one method, on the same images and calibration draws (`paired_difference`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.board.board import Board
from vitptq.bench.board.exports.markdown import markdown, mean
from vitptq.bench.board.paired_difference import Difference, Right, difference
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.errors import BadInput, UnknownName, VitptqError, brief
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store


@dataclass(frozen=True)
class Reference:
    """The method that others are compared with, and what its parameters must be."""

    method: str
    parameters: tuple[tuple[str, JsonValue], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read METHOD or METHOD:KEY=VALUE,KEY=VALUE; values as in a suite file (0.5, true, "diagonal" or diagonal)."""
        method, _, rest = text.partition(":")
        pairs = []
        for part in filter(None, rest.split(",")):
            key, separator, value = part.partition("=")
            if not separator:
                raise BadInput(f'"{part}" in "{text}" is not KEY=VALUE')
            pairs.append((key, _value(value)))
        return cls(method, tuple(pairs))

    def fits(self, row: Row) -> bool:
        """Tell whether a row is of this method with these parameters."""
        given = row.cell.parameters
        return row.cell.method == self.method and all(k in given and given[k] == v for k, v in self.parameters)


def as_markdown(board: Board, store: Store, reference: Reference, left_out: list[str] | None = None) -> str:
    """Return a table per model and bit spec: each row's score and its paired difference to the reference.

    `left_out` gets one sentence for each record whose evidence cannot be used; the others are compared without it.
    Raises UnknownName where no row is of the reference's method, BadInput where its parameters fit none or several.
    """
    known = {row.cell.method for table in board.tables for row in table.quantised}
    if reference.method not in known:
        raise UnknownName("method in these results", reference.method, sorted(known))
    comparer = _Comparer(store, reference, [] if left_out is None else left_out)
    lines = [line for table in board.tables for bits in table.bit_specs for line in comparer.table(table, bits)]
    if not lines:
        raise BadInput(
            f"no row fits {_text(reference)}, or none beside it is scored image by image; see the rows with: "
            "vitptq board"
        )
    return "\n".join(lines) + "\n"


class _Comparer:
    def __init__(self, store: Store, reference: Reference, left_out: list[str]) -> None:
        self.store, self.reference, self.left_out = store, reference, left_out
        self._right: dict[str, dict[int, Right] | None] = {}

    def table(self, table: Table, bits: BitSpec) -> Iterator[str]:
        """Yield the lines of one table; none where the reference is missing or the task has no right or wrong."""
        rows = [row for row in table.at(bits) if row.comparable]  # as ranks: one data version, one protocol
        fitting = [row for row in rows if self.reference.fits(row)]
        if not fitting or self.right(fitting[0]) is None:
            return
        place = f"{markdown(table.task)}/{markdown(table.edition)}"
        yield f"**{markdown(table.model)}** ({place}), {bits}, {markdown(table.metric.title)}"
        yield ""
        more = "".join(f" {markdown(metric.title)} |" for metric in table.secondary)
        yield f"| method | score | against {markdown(fitting[0].card.title)} | |{more}"
        yield f"|---|---:|---:|---|{'---:|' * len(table.secondary)}"
        for row in rows:
            yield _line(row, self.against(row, fitting))
        yield ""

    def against(self, row: Row, fitting: Sequence[Row]) -> Difference | None:
        """Return the difference of a row to the reference; None for the reference itself and without common seeds."""
        other = self.beside(row, fitting)
        ours, theirs = self.right(row), self.right(other)
        return None if row is other or ours is None or theirs is None else difference(ours, theirs)

    def beside(self, row: Row, fitting: Sequence[Row]) -> Row:
        """Return the one reference row: where there are several, that with as many calibration images."""
        same = [r for r in fitting if r.cell.calibration_size == row.cell.calibration_size] or list(fitting)
        if len(same) > 1:
            raise BadInput(
                f"{_text(self.reference)} fits {len(same)} rows at {row.bits}: {'; '.join(r.label for r in same)}; "
                "name parameters: METHOD:KEY=VALUE,KEY=VALUE"
            )
        return same[0]

    def right(self, row: Row) -> dict[int, Right] | None:
        """Return by seed which images a row has right, read once; None for a task that scores no single image."""
        if row.id not in self._right:
            self._right[row.id] = self._read(row)
        return self._right[row.id]

    def _read(self, row: Row) -> dict[int, Right] | None:
        found = {}
        for record in row.counted:
            try:
                right = self._right_images(record)
            except Exception as error:  # noqa: BLE001  a task's own code on evidence of any origin
                why = str(error) if isinstance(error, VitptqError) else f"{type(error).__name__}: {brief(error)}"
                self.left_out.append(f"{brief(record.cell.label(), 200)}: {why}")
                continue
            if right is None:
                return None
            found[record.cell.seed] = right
        return found

    def _right_images(self, record: Record) -> Right | None:
        assert record.evidence is not None  # the schema demands it of a record with status ok
        task = registry.task(record.cell.task, record.cell.edition)
        right = task.correct(self.store.evidence(record.evidence))
        if right is not None and len(right) != record.images:
            raise BadInput(f"the evidence covers {len(right)} images, the record says {record.images}")
        return right


def _line(row: Row, apart: Difference | None) -> str:
    found = f"{apart.points:+.2f} ± {apart.half_width:.2f} | {_verdict(apart, row)}" if apart else "– |"
    more = "".join(f" {mean(row, metric)} |" for metric in row.secondary)
    return f"| {markdown(row.label)} | {mean(row, row.metric)} ({len(row.seeds)}) | {found} |{more}"


def _verdict(apart: Difference, row: Row) -> str:
    """Say also on how many draws, where the reference lacks some of the row's."""
    return apart.verdict + (f" (draws of both: {apart.seeds})" if apart.seeds < len(row.seeds) else "")


def _value(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value


def _text(reference: Reference) -> str:
    pairs = ",".join(f"{key}={value}" for key, value in reference.parameters)
    return f"{reference.method}:{pairs}" if pairs else reference.method
