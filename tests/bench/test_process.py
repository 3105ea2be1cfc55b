"""A command's process: plain output where the terminal is ASCII, and SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitptq.bench import process

ROOT = Path(__file__).parents[2]


def test_ascii_output_loses_nothing() -> None:
    import codecs

    codecs.register_error(process.ERRORS, process.plain)
    assert "87.5 ± 0.3 – ViT−B é".encode("ascii", process.ERRORS) == b"87.5 +- 0.3 - ViT-B \\xe9"


def test_sigterm_is_raised_and_the_handler_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(process.Terminated, match="SIGTERM"), process.stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_is_printed_in_an_ascii_terminal() -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "vitptq.bench.cli", "list", "suites"], cwd=ROOT, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
