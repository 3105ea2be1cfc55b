"""The tests that compare adapters with official code, as pages of the site: what was compared, and with what."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

import vitptq
from vitptq.bench.board.method_card import MethodCard

CHECKOUT = Path(vitptq.__file__).resolve().parent.parent
FOLDER = "tests/parity"
DATA = "data"
"""Beside the tests: the official figures, and where they are from."""


@dataclass(frozen=True, slots=True)
class ParityTest:
    """A test of the project that compares an adapter, or parts of it, with official code."""

    path: str
    summary: str
    """The test's docstring."""
    names: tuple[str, ...]
    """Of its test functions, in their order."""
    source: str
    official: str
    """Where the official code is: an address at its commit, or nothing where the figures do not say."""


def parity_test(card: MethodCard, checkout: Path = CHECKOUT) -> ParityTest | None:
    """Return the test that the adapter names; None where it names none, or the tests are not at hand."""
    path = checkout / card.parity_test
    if not card.parity_test or path.resolve().parent != (checkout / FOLDER).resolve() or not path.is_file():
        return None
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    names = tuple(
        part.name for part in tree.body if isinstance(part, ast.FunctionDef) and part.name.startswith("test_")
    )
    figures = path.stem.removeprefix("test_")
    return ParityTest(card.parity_test, ast.get_docstring(tree) or "", names, source, _official(path.parent, figures))


def _official(folder: Path, figures: str) -> str:
    manifest = folder / DATA / "manifest.json"
    if not manifest.is_file():
        return ""
    origin = json.loads(manifest.read_text(encoding="utf-8"))["files"].get(f"{figures}.npz", {})
    known = "repository" in origin and "commit" in origin
    return f"https://github.com/{origin['repository']}/tree/{origin['commit']}" if known else ""
