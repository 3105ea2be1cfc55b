"""A page of the leaderboard, and what pages are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from vitptq.bench.board.board import Board
from vitptq.bench.board.tables import Table
from vitptq.bench.results.folders import Folders
from vitptq.bench.website import charts
from vitptq.bench.website.answers import Answer, answers
from vitptq.bench.website.changes import Shown, shown
from vitptq.bench.website.claim_book import ClaimBook
from vitptq.bench.website.comparisons import Comparison, comparisons
from vitptq.bench.website.past import NO_PAST, Past


@dataclass(frozen=True, slots=True)
class Page:
    """One file of the site: where it goes, its template and what the template is given."""

    path: str
    template: str
    context: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    """A function where there are thousands of such pages: they are then made by several processes."""


@dataclass(frozen=True)
class Content:
    """What the pages are made from."""

    board: Board
    folders: Folders | None = None
    """Where the records and their evidence lie; without it no evidence is shown."""
    book: ClaimBook | None = None
    """The published numbers beside the board; without it they have no pages."""
    past: Past = NO_PAST
    """What was measured before, and the reports of nights."""
    docs: Path | None = None
    """The folder of the project's documents; without it they have no pages."""
    base_url: str = ""
    """Where the site will stand, with a slash at its end: for what needs whole addresses (site map, link previews)."""

    @cached_property
    def style(self) -> dict[str, charts.Style]:
        """Return how each method is drawn, everywhere on the site."""
        return charts.styles([name for name, card in self.board.cards.items() if card.category != "float"])

    @cached_property
    def groups(self) -> tuple[tuple[str, str, tuple[Table, ...]], ...]:
        """Return the tables by task and edition: full editions first, then those with most rows."""
        return tuple(sorted(self.board.groups(), key=lambda group: (group[1] != "full", -_rows(group[2]), group[:2])))

    @cached_property
    def comparisons(self) -> tuple[Mapping[str, Comparison], ...]:
        """Return each method's differences to the others, for each of `groups`."""
        return tuple(comparisons(tables) for _, _, tables in self.groups)

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """Return the methods that nothing is shown to beat, by model and bit width."""
        return tuple(answers(table for _, _, tables in self.groups for table in tables))

    @cached_property
    def changes(self) -> tuple[Shown, ...]:
        """Return what changed of the rows on the board, the newest first."""
        return shown(self.board.rows, self.past.measured)

    @cached_property
    def year(self) -> int | None:
        """Return the year of the newest record: never that of the build, or the same records would give other bytes."""
        finished = (record.provenance.finished for row in self.board.rows for record in row.records)
        return max((int(time[:4]) for time in finished), default=None)


def _rows(tables: Sequence[Table]) -> int:
    return sum(len(table.counted) for table in tables)


class PagesOf(Protocol):
    """What the registry (`pages.PAGES`) holds: a function that yields the pages of one kind."""

    def __call__(self, content: Content, /) -> Iterator[Page]:
        """Yield the pages."""
