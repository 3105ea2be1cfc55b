"""The list of methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from vitptq.bench.website.page import Content, Page


def pages(content: Content) -> Iterator[Page]:
    """Yield the list of methods, with how often each is in the first tie group."""
    compared: Counter[str] = Counter()
    first: Counter[str] = Counter()
    for table in content.board.tables:
        for bits in table.bit_specs:
            ranked = [row for row in table.at(bits) if table.group(row)]
            if len(ranked) > 1:
                compared.update({row.cell.method for row in ranked})
                first.update({row.cell.method for row in table.winners(bits)})
    cards = sorted(content.board.cards.values(), key=lambda card: (card.title.lower(), card.name))
    methods = tuple((card, first[card.name], compared[card.name]) for card in cards)
    yield Page("methods.html", "methods.html", {"methods": methods})
