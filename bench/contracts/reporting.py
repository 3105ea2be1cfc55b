"""What a method tells the harness while it quantises: progress, notes, figures, tables, images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue

from vitptq.bench.errors import BadInput

Report = Callable[[str, int, int], None]
"""Called with (step, done, in all)."""


class MethodTable(BaseModel):
    """A table that a method told about a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    text: str = ""
    """What a reader must know to read the rows."""
    rows: tuple[dict[str, JsonValue], ...]
    """Values by column; mappings inside a row are columns of their own."""
    bars: tuple[str, str] | None = None
    """(column, column of the largest value): what the pages draw as a bar in each row; a value of None is all of it."""


@dataclass
class MethodLog:
    """What a method told while it quantised."""

    method: str = ""
    report: Report | None = None
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    figures: dict[str, JsonValue] = field(default_factory=dict)
    tables: dict[str, MethodTable] = field(default_factory=dict)
    images: dict[str, NDArray[Any]] = field(default_factory=dict)


_log: MethodLog | None = None
"""Set by `listening` alone. Not a context variable: what a thread of the method tells is told, too."""


@contextmanager
def listening(report: Report | None = None, folder: Path | None = None, method: str = "") -> Iterator[MethodLog]:
    """Collect what a method tells inside; one inside another hears alone.

    `report` is called with its progress, `folder` is where it may keep its state, `method` names it in errors.
    """
    global _log
    outer, _log = _log, MethodLog(method, report, folder)
    try:
        yield _log
    finally:
        _log = outer


def report(step: str, done: int, total: int) -> None:
    """Show what a long quantisation does now: `step` in a few words, `done` of `total`. Costs next to nothing."""
    if _log is not None and _log.report is not None:
        _log.report(step, done, total)


def work_folder() -> Path | None:
    """Return the cell's folder for what a killed quantisation can go on from; None where nothing is kept.

    It need not exist yet. It is removed once the cell has a score.
    """
    return None if _log is None else _log.folder


def note(text: str) -> None:
    """Add a note to the record, once. Only what the same cell would say again: results are compared by it, too."""
    if not isinstance(text, str):  # a record that cannot be written would cost the evaluation that follows
        raise BadInput(f"{_speaker()} told {text!r} as a note; give a text")
    if _log is not None and text not in _log.notes:
        _log.notes.append(text)


def note_details(name: str, value: Any) -> None:
    """Keep figures of this run in the record, under details["method"]["figures"][name].

    `value` is made of plain, finite JSON values; `BadInput` names the one that is not. Rows of figures that the run's
    page should show are a table: `note_table`.
    """
    figures = _plain(value, f'note_details("{name}")')
    if _log is not None:
        _log.figures[name] = figures


def note_table(
    name: str, rows: Sequence[Mapping[str, Any]], text: str = "", *, bars: tuple[str, str] | None = None
) -> None:
    """Show a table on the run's page, under its name and below `text`; kept in details["method"]["tables"][name].

    A row is a mapping from columns to plain, finite JSON values; mappings inside a row become columns of their own.
    `BadInput` names the value that is not one. `bars` draws the first named column in each row as a share of the
    second, on the run's and the method's page; None in the first is a full bar.
    """
    where = f'note_table("{name}")'
    plain = [_plain(row, f"{where} row {number}") for number, row in enumerate(rows)]
    found = [row for row in plain if isinstance(row, dict)]
    if len(found) < len(plain):
        raise BadInput(f"{_speaker()} told a row in {where} that is no mapping; give mappings from columns to values")
    if not isinstance(text, str):
        raise BadInput(f"{_speaker()} told {where} with {text!r} above it; give a text")
    if _log is not None:
        _log.tables[name] = MethodTable(text=text, rows=tuple(found), bars=bars)


def keep_images(name: str, images: NDArray[Any]) -> None:
    """Keep images that the method made beside the evidence, and show them on the run's page.

    `images` is uint8, (batches, images, height, width, 3); `name` is one word, the array's name in the file.
    """
    if images.dtype != "uint8" or images.ndim != 5 or images.shape[-1] != 3 or not name.isidentifier():
        raise BadInput(
            f"{images.dtype} {images.shape} called {name!r}: expected uint8 (batches, images, H, W, 3), a word"
        )
    if _log is not None:
        _log.images[name] = images


def _speaker() -> str:
    return f"method {_log.method}" if _log is not None and _log.method else "a method"


def _plain(value: Any, where: str) -> JsonValue:
    """Return a copy in plain JSON values; refuse, now and not after the evaluation, what a record cannot hold."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadInput(f"{_speaker()} told {value} in {where}; give finite numbers, or None where there is none")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BadInput(f"{_speaker()} told a mapping with the key {key!r} in {where}; keys are texts")
        return {key: _plain(inner, f'{where}["{key}"]') for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{where}[{number}]") for number, inner in enumerate(value)]
    kind = type(value).__name__
    raise BadInput(f"{_speaker()} told a {kind} in {where}; give None, bool, int, float, str, lists or mappings")
