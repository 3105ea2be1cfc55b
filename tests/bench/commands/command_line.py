"""The command line, as a function."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from vitptq.bench import registry
from vitptq.bench.cli import app

TINY = ["--adapter", str(Path(__file__).parent.parent / "tiny_task.py")]


def vitptq(*arguments: str, code: int = 0) -> str:
    """Return what the command prints; it has to leave with this code."""
    with registry.temporary():
        result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output
