"""Which cells a command line asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.commands.command_line import TINY, vitptq
from tests.bench.conftest import SUITE


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\xff\xfe", "is not UTF-8"),
        (b"title = ", "is not valid TOML"),
        (SUITE.encode() + b"parameters = { weight_rate = nan }", "weight_rate = nan is no finite number"),
        (SUITE.encode() + b"seeds = [-1]", "seeds.0"),
        (SUITE.replace("W4A4", "W9A9").encode(), "9 bits for weights"),
    ],
)
def test_suite_that_cannot_be_read_is_one_sentence(tmp_path: Path, body: bytes, words: str) -> None:
    (tmp_path / "a suite.toml").write_bytes(body)
    assert words in vitptq("plan", str(tmp_path / "a suite.toml"), "--results", str(tmp_path), *TINY, code=2)


def test_bits_are_read_in_any_case(suite: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.replace("W4A4", "w4a4"))
    text = vitptq("plan", str(suite), "--only", "bits=w4A4", "--results", str(tmp_path), *TINY)
    assert "W4A4" in text
    assert "w4a4" not in text


def test_method_from_a_file_replaces_the_suites(suite: Path, tmp_path: Path) -> None:
    source = (Path(__file__).parents[3] / "methods" / "minmax.py").read_text()
    (tmp_path / "mine.py").write_text(source.replace('name = "minmax"', 'name = "mine"'))
    text = vitptq("plan", str(suite), "--method", str(tmp_path / "mine.py"), "--results", str(tmp_path), *TINY)
    assert "vit mine W4A4" in text
    assert "repq" not in text
