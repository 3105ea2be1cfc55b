"""What a method tells the harness while it quantises: progress, notes, figures, images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vitptq.bench.errors import BadInput

Report = Callable[[str, int, int], None]
"""Called with (step, done, in all)."""


@dataclass
class MethodLog:
    """What a method told while it quantised."""

    report: Report | None = None
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    images: dict[str, NDArray[Any]] = field(default_factory=dict)


_heard = MethodLog()


@contextmanager
def listening(report: Report | None = None, folder: Path | None = None) -> Iterator[MethodLog]:
    """Collect what a method tells inside: its progress, notes and details. `folder` is where it may keep its state."""
    global _heard
    outer, _heard = _heard, MethodLog(report, folder)
    try:
        yield _heard
    finally:
        _heard = outer


def report(step: str, done: int, total: int) -> None:
    """Show what a long quantisation does now: `step` in a few words, `done` of `total`. Costs next to nothing."""
    if _heard.report is not None:
        _heard.report(step, done, total)


def work_folder() -> Path | None:
    """Return the cell's folder for what a killed quantisation can go on from; None where nothing is kept.

    It need not exist yet. It is removed once the cell has a score.
    """
    return _heard.folder


def note(text: str) -> None:
    """Add a note to the record, once. Only what the same cell would say again: results are compared by it, too."""
    if text not in _heard.notes:
        _heard.notes.append(text)


def note_details(key: str, value: Any) -> None:
    """Keep figures or tables of this run in the record, under details["method"][key]: plain JSON values.

    A list of mappings is a table on the run's page, and so is {"text": what a reader must know, "rows": such a list}.
    """
    _heard.details[key] = value


def keep_images(name: str, images: NDArray[Any]) -> None:
    """Keep images that the method made beside the evidence, and show them on the run's page.

    `images` is uint8, (batches, images, height, width, 3); `name` is one word, the array's name in the file.
    """
    if images.dtype != "uint8" or images.ndim != 5 or images.shape[-1] != 3 or not name.isidentifier():
        raise BadInput(
            f"{images.dtype} {images.shape} called {name!r}: expected uint8 (batches, images, H, W, 3), a word"
        )
    _heard.images[name] = images
