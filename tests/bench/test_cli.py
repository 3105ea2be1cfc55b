"""The command line: help."""

from __future__ import annotations

from tests.bench.commands.command_line import vitptq


def test_help_summarises_every_command_whole() -> None:
    words = " ".join(vitptq("--help").split())
    assert "the same command goes on where it was." in words
    assert "..." not in words.partition("Commands")[2]


def test_help_names_every_command() -> None:
    text = vitptq("--help")
    for name in ("doctor", "list", "plan", "run", "status", "check", "verify", "board", "site", "data", "claims"):
        assert name in text
