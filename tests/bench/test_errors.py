"""Errors as sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitptq.bench.errors import described

HERE = Path(__file__)


def test_an_exception_is_described_with_the_line_of_the_file_that_led_to_it() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    lines = HERE.read_text().splitlines()
    line = lines.index('        json.loads("{")') + 1
    assert described(caught.value, HERE).startswith("JSONDecodeError: Expecting property name")
    assert described(caught.value, HERE).endswith(f"(test_errors.py, line {line})")


def test_an_exception_from_elsewhere_is_described_with_its_own_place() -> None:
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads("{")
    assert "(decoder.py, line " in described(caught.value, Path("other.py"))


def test_an_exception_that_was_never_raised_has_no_place() -> None:
    assert described(ValueError("x"), HERE) == "ValueError: x"


def test_a_syntax_error_names_its_own_line() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("x = = 1", "bad.py", "exec")
    assert described(caught.value, HERE) == "SyntaxError: invalid syntax (bad.py, line 1)"
