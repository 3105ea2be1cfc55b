"""How commands end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.commands.command_line import vitptq


def test_version_is_printed() -> None:
    assert vitptq("--version").startswith("vitptq")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "quik"], 'unknown suite "quik"'),
        (["run", "quick", "--only", "metod=x"], 'did you mean "method"'),
        (["check", "minmaxx"], 'did you mean "minmax"'),
        (["check", "nowhere.py"], "does not exist"),
        (["run", "quick", "--device", "tpu"], 'unknown device "tpu"; known: auto, cpu, cuda, cuda:N'),
        (["data", "full", "--out", "x"], 'unknown generated edition "full"'),
        (["plan", "quick", "--only", "id="], "has an empty value"),
        (["plan", "quick", "--only", "model=mini_vit,"], "has an empty value"),
        (["plan", "quick", "--only", "bits=W9A9"], 'unknown bits in this suite "W9A9"'),
        (["site", "--out", "/dev/null/x", "--results", "nowhere"], "does not exist; name one with --results"),
        (["verify", "--results", "nowhere"], "does not exist; name one with --results"),
        (["board", "--results", "nowhere"], "does not exist; name one with --results"),
        (["compare", "minmax", "--results", "nowhere"], "does not exist; name one with --results"),
    ],
)
def test_bad_input_is_one_line_that_teaches(arguments: list[str], words: str, tmp_path: Path) -> None:
    results = ["--results", str(tmp_path)] if arguments[0] in ("plan", "run") else []
    text = vitptq(*arguments, *results, code=2)
    assert words in text
    assert "Traceback" not in text
