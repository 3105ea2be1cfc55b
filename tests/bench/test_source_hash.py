"""The source hash: what leaves it as it was, what changes it, and which modules it covers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import vitptq
from vitptq.bench import registry
from vitptq.bench.source_hash import METHODS, ROOMS, code_hash, imported, program_hash, source_hash, sources

Change = Callable[[str], str]
ADAPTER = '''"""A method."""

from dataclasses import dataclass

from vitptq import Method
from vitptq.methods.core.ranges.observers import observe_weights


@dataclass(frozen=True)
class Mine(Method):
    """What it does."""

    name, title, fidelity = "mine", "Mine", "paper"
    rate: float = 0.25
    """What it is for."""

    def quantize(self, model, calibration, bits):
        """Return the model."""
        text = """two
lines"""
        return model
'''
SAME: dict[str, Change] = {
    "a comment": lambda text: text.replace("rate: float", "# why\n    rate: float"),
    "a docstring": lambda text: text.replace("What it does.", "What it does,\n    in other words."),
    "no docstring": lambda text: text.replace('        """Return the model."""\n', ""),
    "no docstring of an attribute": lambda text: text.replace('    """What it is for."""\n', ""),
    "blank lines": lambda text: text.replace("\n\n", "\n\n\n\n"),
    "a reformat": lambda text: text.replace(
        "(self, model, calibration, bits)", "(\n  self, model,\n calibration, bits,)"
    ),
    "other quotes": lambda text: text.replace('"mine", "Mine"', "'mine', ('Mine')"),
    "CRLF line ends": lambda text: text.replace("\n", "\r\n"),
}
OTHER: dict[str, Change] = {
    "a constant": lambda text: text.replace("0.25", "0.250001"),
    "the type of a constant": lambda text: text.replace("0.25", "1").replace("float =", "int ="),
    "a string that is used": lambda text: text.replace("two\nlines", "two\n lines"),
    "a statement": lambda text: text.replace("return model", "return model.eval()"),
    "an import": lambda text: text.replace("observe_weights", "observe_activations"),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_leaves_the_program_as_it_was_names_the_same_cell(tmp_path: Path, change: Change) -> None:
    assert change(ADAPTER) != ADAPTER
    assert hash_of(tmp_path / "a", change(ADAPTER)) == hash_of(tmp_path / "b", ADAPTER)


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_changes_the_program_names_another_cell(tmp_path: Path, change: Change) -> None:
    assert hash_of(tmp_path / "a", change(ADAPTER)) != hash_of(tmp_path / "b", ADAPTER)


def hash_of(folder: Path, text: str) -> str:
    folder.mkdir()
    path = folder / "adapter.py"
    path.write_bytes(text.encode())
    with registry.temporary():
        return source_hash(registry.method(str(path)))


@pytest.fixture
def their_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of somebody else's package, whose adapter uses shared code."""
    package = tmp_path / "their_methods"
    (package / "deeper").mkdir(parents=True)
    (package / "__init__.py").write_text("from .deeper import LEVELS\n")
    (package / "adapter.py").write_text(ADAPTER + "from . import shared\n")
    (package / "shared.py").write_text("STEPS = 3\n")
    (package / "deeper" / "__init__.py").write_text("from .core import LEVELS\n")
    (package / "deeper" / "core.py").write_text("LEVELS = 16\n")
    monkeypatch.syspath_prepend(tmp_path)
    return package


def test_a_changed_shared_module_names_another_cell(their_methods: Path) -> None:
    from their_methods.adapter import Mine  # type: ignore[import-not-found]

    shared = {"their_methods", "their_methods.shared", "their_methods.deeper", "their_methods.deeper.core"}
    assert shared < set(sources(Mine))
    hashes = []
    for text in ("STEPS = 3\n", "STEPS = 3  # as in the paper\n", "STEPS = 4\n"):
        (their_methods / "shared.py").write_text(text)
        source_hash.cache_clear()
        hashes.append(source_hash(Mine))
    assert hashes[0] == hashes[1] != hashes[2]


def test_it_covers_the_shared_code_of_methods_and_every_family() -> None:
    found = set(sources(registry.method("omse")))
    assert {
        "adapter",
        "vitptq.methods.core.ranges.estimation",
        "vitptq.methods.core.quantizers.uniform",
        "vitptq.methods.core.model.families.swin",
    } <= found
    assert "vitptq.methods.repq_vit" not in found


PUBLIC = {
    "by name": "from vitptq import observe",
    "every name": "from vitptq import *",
    "as an attribute": "import vitptq\nvitptq.observe(1)",
    "as an attribute of an alias": "import vitptq as v\nv.observe(1)",
    "beside a module of the package": "import vitptq.bench.bits\nvitptq.observe(1)",
}


@pytest.mark.parametrize("source", PUBLIC.values(), ids=PUBLIC)
def test_it_follows_a_public_name_to_the_module_behind_it(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vitptq.SOURCES, "observe", "methods.core.ranges.observers")
    assert "vitptq.methods.core.ranges.observers" in list(imported(source.encode(), "", (METHODS,)))


def test_it_follows_nothing_that_only_looks_like_a_public_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vitptq.SOURCES, "observe", "methods.core.ranges.observers")
    source = b"from vitptq import BitSpec\nimport numpy as vitptq\nBitSpec.observe(vitptq)"
    assert list(imported(source, "", (METHODS,))) == []


def test_every_version_of_python_gives_the_same_hash() -> None:
    source = b"def f(x: int = 1, *a, y=None, **k) -> str:\n    return f'{x!r:>{a}}' + u'b'\nclass A(B): c = {**f(2)}\n"
    assert program_hash(source)[:16] == "17edd4406b973984"


def test_the_hash_of_the_code_covers_every_room(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = {code_hash()}
    for room in ROOMS:
        others = tuple(other for other in ROOMS if other != room)
        monkeypatch.setattr("vitptq.bench.source_hash.ROOMS", others)
        hashes.add(code_hash.__wrapped__())
    assert len(hashes) == 1 + len(ROOMS)
