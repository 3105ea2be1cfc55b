"""The hash of a method's source: of what the program does, not of how it is written down, shared code included."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import vitptq
from vitptq.bench.contracts.method import Method

METHODS = f"{vitptq.__name__}.methods"
ROOMS = ("bench", "methods", "tasks")
WITHOUT_EFFECT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields of the syntax tree that follow from others, or that nothing reads when the program runs."""


@cache
def source_hash(cls: type[Method]) -> str:
    """Hash the adapter's source and that of every module of `methods` it imports, directly or not."""
    digest = hashlib.sha256()
    for name, source in sorted(sources(cls).items()):
        digest.update(f"{name}\0{program_hash(source)}\0".encode())
    return digest.hexdigest()


@cache
def code_hash() -> str:
    """Hash every Python file of the project: two machines with the same one run the same code."""
    top = Path(vitptq.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (top / room).rglob("*.py")):
        digest.update(f"{path.relative_to(top)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


@cache
def program_hash(source: bytes) -> str:
    """Hash a module's syntax tree: the same with other comments, docstrings, line ends or layout."""
    text: list[str] = []
    _write(ast.parse(source), text)
    return hashlib.sha256("".join(text).encode("utf-8", "backslashreplace")).hexdigest()


def sources(cls: type[Method]) -> dict[str, bytes]:
    """Return the sources that the hash covers by module name; the adapter itself is called "adapter" wherever it is."""
    top = cls.__module__.split(".")[0]
    packages = (METHODS,) if top == vitptq.__name__ else (METHODS, top)
    waiting, found = [_Module(cls.__module__, Path(inspect.getfile(cls)))], dict[str, bytes]()
    while waiting:
        module = waiting.pop()
        key = "adapter" if module.name == cls.__module__ else module.name
        if key not in found:
            found[key] = module.path.read_bytes()
            names = imported(found[key], module.package, packages)
            waiting += [file for name in names for file in _files(name)]
    return found


@cache
def imported(source: bytes, package: str, packages: tuple[str, ...]) -> frozenset[str]:
    """Return the modules of `packages` that a source names, and what is imported from them: that may be modules too.

    `package` is the one that the source belongs to. A public name of vitptq counts as the module that defines it.
    """
    names = _names(ast.parse(source), package)
    return frozenset(name for name in names if any(name == p or name.startswith(f"{p}.") for p in packages))


def _names(tree: ast.Module, package: str) -> Iterator[str]:
    whole = set()  # what the source calls the package of the public names
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            whole |= {bound for alias in node.names if (bound := _whole(alias))}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
            if base == vitptq.__name__:
                yield from (module for alias in node.names for module in _public(alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in whole:
            yield from _public(node.attr)


@dataclass(frozen=True)
class _Module:
    name: str
    path: Path

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def _whole(alias: ast.alias) -> str:
    """Return the name to which an import statement binds the package vitptq itself; empty where it does not."""
    if alias.asname:
        return alias.asname if alias.name == vitptq.__name__ else ""
    top = alias.name.split(".")[0]
    return top if top == vitptq.__name__ else ""


def _public(name: str) -> Iterator[str]:
    """Yield the modules behind a public name of vitptq; "*" stands for every name."""
    for public, module in vitptq.SOURCES.items():
        if name in (public, "*"):
            yield f"{vitptq.__name__}.{module}"


def _files(name: str) -> Iterator[_Module]:
    """Yield a module's file, and for the families those of the folder, where they are found without an import."""
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # an imported name that is not a module
        return
    if spec is None or spec.origin is None:
        return
    yield _Module(name, Path(spec.origin))
    if name.endswith(".families"):
        for path in sorted(Path(spec.origin).parent.glob("*.py")):
            yield _Module(f"{name}.{path.stem}", path)


def _write(value: Any, text: list[str]) -> None:
    """Write a syntax tree out. `ast.dump` writes other text in other versions of Python: new fields, empty lists."""
    if isinstance(value, ast.AST):
        text.append(f"{type(value).__name__}(")
        for name, inner in ast.iter_fields(value):
            if inner is not None and inner != [] and name not in WITHOUT_EFFECT:
                text.append(f"{name}=")
                _write(inner, text)
        text.append(")")
    elif isinstance(value, list):
        text.append("[")
        for inner in value:
            if not _is_documentation(inner):
                _write(inner, text)
                text.append(",")
        text.append("]")
    else:
        text.append(repr(value))


def _is_documentation(node: Any) -> bool:
    """Tell whether a statement is a string that stands alone: a docstring, or the one below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
