"""The page of what changed, and its Atom feed (RFC 4287)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitptq.bench.website.changes import Shown
from vitptq.bench.website.page import Content, Page

MOST_DAYS = 60
MOST_LISTED = 500
"""Changes other than new rows that the page lists."""
MOST_ENTRIES = 100
AUTHORITY = "vitptq.invalid,2026"
"""Of the entries' tag URIs (RFC 4151): a name that nobody can own, so that ids stay when a site moves."""


@dataclass(frozen=True, slots=True)
class Day:
    """What was measured for the first time on a day: rows by task, edition and method."""

    date: str
    new: tuple[tuple[str, str, str, int], ...]


def pages(content: Content) -> Iterator[Page]:
    """Yield the page and the feed; nothing where no history was read."""
    if not content.past.measured:
        return
    found = content.changes
    listed = tuple(item for item in found if item.change.kind != "new")
    context = {"days": days(found), "listed": listed[:MOST_LISTED], "more": max(len(listed) - MOST_LISTED, 0)}
    yield Page("changes.html", "changes.html", context)
    feed = {"entries": found[:MOST_ENTRIES], "updated": found[0].change.measured.finished if found else ""}
    yield Page("feed.xml", "feed.xml", feed | {"authority": AUTHORITY})


def days(found: Sequence[Shown]) -> tuple[Day, ...]:
    """Return what is new by day, the newest first."""
    new = [item for item in found if item.change.kind == "new"]
    grouped = itertools.groupby(new, key=lambda item: item.change.day)
    made = []
    for date, items in itertools.islice(grouped, MOST_DAYS):
        counts = Counter((i.row.cell.task, i.row.cell.edition, i.row.cell.method) for i in items)
        made.append(Day(date, tuple((*key, count) for key, count in sorted(counts.items()))))
    return tuple(made)
