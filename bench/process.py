"""The process of a command: output any terminal takes, a user without a name, an end on SIGTERM with a sentence."""

from __future__ import annotations

import codecs
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PLAIN = {
    "–": "-", "—": "-", "−": "-", "±": "+-", "×": "x", "·": ".", "…": "...", "→": "->", "≥": ">=", "≤": "<=",
    "‘": "'", "’": "'", "“": '"', "”": '"', "━": "-", "─": "-", "│": "|", "√": "sqrt", "²": "^2", "•": "*",
}  # fmt: skip
"""What a terminal without the character shows in its place."""
ERRORS = "vitptq.plain"


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be: the same clean-up follows."""


def prepare() -> None:
    """Make this process robust against its surroundings: called before a command does anything."""
    codecs.register_error(ERRORS, plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        # torch asks for the user's name when it is imported, and in a container there may be none
        os.environ["USER"] = f"user{os.getuid()}" if hasattr(os, "getuid") else "user"


def plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks by what is like it, else by its escape: nothing is lost, and nothing raised."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Raise Terminated inside on SIGTERM, as a batch system sends it before it kills."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough: the clean-up is under way
    raise Terminated("stopped by SIGTERM")
