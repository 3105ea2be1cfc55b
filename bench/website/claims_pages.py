"""The pages of published numbers: an overview with the disagreements, and one page per model."""

from __future__ import annotations

from collections.abc import Iterator

from vitptq.bench.website.page import Content, Page
from vitptq.bench.website.paths import claims_path

MEANINGS = (
    ("reproduced", "inside the 95 % interval of what was measured here, widened by half of the printed last digit"),
    ("not reproduced", "outside that interval"),
    ("not comparable", "measured, but something else: the line says what differs"),
    ("not run", "nothing that counts was measured here: the line says why"),
)


def pages(content: Content) -> Iterator[Page]:
    """Yield the pages of the published numbers, where they are there."""
    if content.book is None:
        return
    yield Page("claims.html", "claims.html", {"book": content.book, "meanings": MEANINGS})
    for model in content.book.models:
        yield Page(claims_path(model.task, model.name), "claims_model.html", {"model": model})
