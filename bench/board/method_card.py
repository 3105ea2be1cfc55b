"""What the board tells about a method: its adapter's words, or its records' where the adapter is not installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitptq.bench.results.record import Record


@dataclass(frozen=True, slots=True)
class MethodCard:
    """What the board tells about a method; taken from its adapter."""

    name: str
    title: str
    summary: str
    """The adapter's docstring."""
    fidelity: str
    inferred: tuple[str, ...] = ()
    parity: Mapping[str, Any] = field(default_factory=dict)
    """The parameters with which it was compared with official code; rows that have them have that fidelity."""
    parity_test: str = ""
    """The project's test that compares it, or parts of it, with official code."""
    category: str = "ptq"
    paper: str = ""
    source_hash: str = ""
    known: bool = True
    """False: records name it, but its adapter was not found when the board was built."""

    def fidelity_of(self, parameters: Mapping[str, Any]) -> str:
        """Return the fidelity of rows with these parameters."""
        compared = self.parity and all(parameters.get(name) == value for name, value in self.parity.items())
        return "parity" if compared else self.fidelity


def method_cards(records: Sequence[Record], installed: Mapping[str, MethodCard]) -> dict[str, MethodCard]:
    """Return the card of every method that has records, by name, in the order of the names."""
    newest: dict[str, Record] = {}
    for record in sorted(records, key=lambda r: (r.provenance.finished, r.id)):
        newest[record.cell.method] = record
    return {name: installed.get(name) or _of_record(newest[name]) for name in sorted(newest)}


def _of_record(record: Record) -> MethodCard:
    name = record.cell.method
    summary = "The adapter of this method was not found when this board was built; only its records are known."
    return MethodCard(name, name, summary, record.fidelity, source_hash=record.cell.source, known=False)
