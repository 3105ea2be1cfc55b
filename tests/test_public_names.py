"""The public surface: `from vitptq import …`."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import vitptq

ROOT = Path(__file__).parent.parent


def defined_in(module: str) -> set[str]:
    """Return the names that a module defines at its top, and does not merely import."""
    places = ROOT / Path(*module.split(".")).with_suffix(".py"), ROOT / Path(*module.split(".")) / "__init__.py"
    path = next(path for path in places if path.is_file())
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_names_are_sorted_and_each_has_a_source() -> None:
    assert vitptq.__all__ == sorted(vitptq.SOURCES)
    assert list(vitptq.SOURCES) == sorted(vitptq.SOURCES)


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(vitptq.__file__).read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    lines = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in lines for alias in node.names}
    assert seen == {name: f"vitptq.{module}" for name, module in vitptq.SOURCES.items()}


@pytest.mark.parametrize("name", vitptq.__all__)
def test_name_is_what_its_source_defines(name: str) -> None:
    assert name in defined_in(vitptq.SOURCES[name])
    assert getattr(vitptq, name) is getattr(importlib.import_module(f"vitptq.{vitptq.SOURCES[name]}"), name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute prepared"):
        vitptq.prepared  # noqa: B018


def test_import_alone_loads_nothing_heavy() -> None:
    told = "import sys, vitptq; print(sorted({'torch', 'numpy', 'timm', 'pydantic'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
