"""Methods beside each other: how often each is shown to be better, and a page per method with every difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.tables import more_bits_first
from vitptq.bench.website.comparisons import Comparison, Line
from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import compare_path


@dataclass(frozen=True, slots=True)
class Group:
    """The comparisons of one task and edition."""

    task: str
    edition: str
    metric: str
    methods: tuple[str, ...]
    found: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Section:
    """The differences of one method on one task and edition."""

    task: str
    edition: str
    metric: str
    bits: tuple[BitSpec, ...]
    lines: tuple[Line, ...]
    variants: bool
    """Whether it has several rows of the method itself."""


def pages(content: Content) -> Iterator[Page]:
    """Yield the comparison of all methods, and one page for each."""
    groups = tuple(_groups(content))
    yield Page("compare.html", "compare.html", {"groups": groups})
    for method in _by_title(content, {name for group in groups for name in group.methods}):
        counts: dict[str, Counter[str]] = {}
        for group in groups:
            for other, verdicts in (group.found[method].counts if method in group.found else {}).items():
                counts.setdefault(other, Counter()).update(verdicts)
        context = {
            "card": content.board.cards[method],
            "counts": counts,
            "others": _by_title(content, counts),
            "sections": tuple(_section(group, method) for group in groups if method in group.found),
        }
        yield Page(compare_path(method), "compare_method.html", context)


def _groups(content: Content) -> Iterator[Group]:
    for (task, edition, tables), found in zip(content.groups, content.comparisons, strict=True):
        if found:
            yield Group(task, edition, tables[0].metric.title, _by_title(content, found), found)


def _section(group: Group, method: str) -> Section:
    lines = group.found[method].lines
    bits = tuple(sorted({bits for line in lines for bits in line.cells}, key=more_bits_first))
    variants = len({line.ours for line in lines}) > 1
    return Section(group.task, group.edition, group.metric, bits, lines, variants)


def _by_title(content: Content, methods: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(methods, key=lambda name: (content.board.cards[name].title.lower(), name)))
