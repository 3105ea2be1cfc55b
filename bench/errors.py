"""Errors a person can act on: each names the value, what was allowed and the next step.

VitptqError
├── UnknownName     a name nobody registered
├── BadInput        a malformed suite, bit spec, filter, record or parameter
├── GateShut        a float model that does not reach its reference: nothing is measured on it
├── Missing         a data set, checkpoint or optional package that is not there
└── Unsupported     a method that does not handle this model, task or bit width (a result, not a bug)
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class VitptqError(Exception):
    """Base of every error that is the user's to act on; printed without a traceback."""


class BadInput(VitptqError):
    """Something given by the user does not make sense as it stands."""


class GateShut(VitptqError):
    """The float model does not reach its reference here, so what is measured on it would not count."""


class Missing(VitptqError):
    """A data set, a checkpoint or an optional package is not on this machine."""


class Unsupported(VitptqError):
    """A method does not handle this model, task or bit width. Recorded as such, never counted as a bug."""


class UnknownName(VitptqError):
    """A name that is not registered; the message lists the known ones and the nearest."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        super().__init__(f'unknown {kind} "{brief(name)}"; known: {", ".join(names) or "none"}{hint}')


def described(error: BaseException, file: Path) -> str:
    """Return an exception in one line: its type, its message and its place.

    That is the last line of `file` on the way to it, or where it was raised if it did not come through `file`.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if Path(frame.filename) == file] or list(frames))[-1:]
    if isinstance(error, SyntaxError):  # says so itself
        last = []
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {error}{place}"


def invalid_fields(error: ValidationError) -> str:
    """Return what a schema found, as "field: what is wrong with it" for each."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())


def brief(text: object, length: int = 120) -> str:
    r"""Return a value for a sentence: on one line, printable, and no longer than `length` characters.

    >>> brief("two\nlines"), brief("a" * 1000, 9)
    ('two lines', 'aaaa…aaaa')
    """
    line = "".join(c if c.isprintable() else " " for c in str(text))
    half = (length - 1) // 2
    return line if len(line) <= length else f"{line[:half]}…{line[-half:]}"
