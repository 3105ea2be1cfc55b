"""The rooms of the house: who may import whom, and where the tests of a module are."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vitptq

ROOT = Path(__file__).parent.parent
FOLDERS = ("bench", "methods", "tasks")

OPEN_TO_ALL = ("bench.contracts", "bench.bits", "bench.errors", "bench.files")
"""What methods and tasks may import of the harness."""


@cache
def modules() -> dict[str, Path]:
    """Return every module of the packaged folders by its name below `vitptq`."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {name_of(path): path for path in files}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports() -> dict[str, frozenset[str]]:
    """Return, by module, the modules of this project that it imports, at the top or inside a function."""
    return {name: frozenset(_imported(name, path)) for name, path in modules().items()}


def _imported(name: str, path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative import in line {node.lineno}"
            yield from (found for alias in node.names for found in _meant(node.module or "", alias.name))
        elif isinstance(node, ast.Import):
            yield from (found for alias in node.names for found in _meant(alias.name, ""))


def _meant(module: str, name: str) -> Iterator[str]:
    """Yield the module that `from module import name` reads, where it is one of ours; `import module` has no name."""
    if module == vitptq.__name__ and name in vitptq.SOURCES:
        yield vitptq.SOURCES[name]
        return
    below = module.removeprefix("vitptq.") if module.startswith("vitptq.") else ""
    inner = f"{below}.{name}" if below else name if module == vitptq.__name__ else ""
    if inner in modules():
        yield inner
    elif below in modules():
        yield below


def room_of(module: str) -> str:
    """Return the wing that a module is in, or the module itself where it stands at the top of its folder."""
    depth = 3 if module.startswith("methods.core.") else 2
    return ".".join(module.split(".")[:depth])


def inside(module: str, *rooms: str) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def arrows(*sources: str) -> list[tuple[str, str]]:
    """Return what the modules inside `sources` import, as pairs."""
    pairs = [(name, target) for name, targets in imports().items() if inside(name, *sources) for target in targets]
    return sorted(pairs)


def test_import_graph_is_read_from_the_sources() -> None:
    assert "bench.bits" in imports()["methods.core.model.prepare"]
    assert "methods.core.model.families" in imports()["methods.core.model.prepare"]
    assert len(modules()) > 100


def test_core_imports_no_adapter() -> None:
    assert not [(a, b) for a, b in arrows("methods.core") if inside(b, "methods") and not inside(b, "methods.core")]


def test_harness_imports_neither_methods_nor_tasks() -> None:
    assert not [(a, b) for a, b in arrows("bench") if inside(b, "methods", "tasks")]


@pytest.mark.parametrize(("one", "other"), [("methods", "tasks"), ("tasks", "methods")])
def test_methods_and_tasks_do_not_know_each_other(one: str, other: str) -> None:
    assert not [(a, b) for a, b in arrows(one) if inside(b, other)]


def test_methods_and_tasks_import_only_the_contracts_of_the_harness() -> None:
    assert not [(a, b) for a, b in arrows("methods", "tasks") if inside(b, "bench") and not inside(b, *OPEN_TO_ALL)]


def test_contracts_import_no_other_room() -> None:
    assert not [(a, b) for a, b in arrows(*OPEN_TO_ALL) if not inside(b, *OPEN_TO_ALL)]


def test_embedded_edition_is_imported_by_no_other_room() -> None:
    assert not [
        (a, b)
        for a, b in arrows("bench", "methods", "tasks")
        if inside(b, "tasks.mini") and not inside(a, "tasks.mini")
    ]


def test_site_holds_nothing_to_import() -> None:
    assert not list((ROOT / "site").rglob("*.py"))


def test_rooms_import_each_other_in_one_direction() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for name, target in arrows(*FOLDERS):
        if room_of(name) != room_of(target):
            graph[room_of(name)].add(room_of(target))
    assert not cycles(graph)


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of rooms that reach each other."""
    reach = {room: reachable(graph, room) for room in graph}
    groups = [{room} | {other for other in reach[room] if room in reach.get(other, ())} for room in graph]
    return [group for i, group in enumerate(groups) if len(group) > 1 and group not in groups[:i]]


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def test_cycles_are_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]


def test_every_room_says_what_lives_there() -> None:
    rooms = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*/") if list(path.glob("*.py"))]
    silent = [str(room) for room in rooms if not ast.get_docstring(ast.parse((room / "__init__.py").read_text()))]
    assert not silent


COVERED_ELSEWHERE: dict[str, str] = {}
"""Modules without a test module of their own, with the one that tests them; to be made shorter, never longer."""


def mirrored_test(module: str) -> Path:
    *folders, name = module.split(".")
    return ROOT.joinpath("tests", *folders, f"test_{name}.py")


def test_every_module_has_a_test_module_in_the_mirrored_folder() -> None:
    plain = [name for name, path in modules().items() if path.name not in ("__init__.py", "__main__.py")]
    assert not [name for name in plain if name not in COVERED_ELSEWHERE and not mirrored_test(name).is_file()]


def test_exceptions_are_needed_and_name_what_covers_them() -> None:
    for module, covered_by in COVERED_ELSEWHERE.items():
        assert module in modules() and not mirrored_test(module).is_file(), module
        assert module in _modules_of_test(ROOT / covered_by), f"{covered_by} does not import {module}"


def _modules_of_test(path: Path) -> set[str]:
    """Return what a test imports, and what those modules import."""
    direct = set(_imported(str(path), path))
    return direct.union(*(imports()[name] for name in direct))


def test_test_folders_mirror_the_source_folders() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    folders.discard(Path("parity"))  # official figures beside parts of many modules
    assert not [str(folder) for folder in folders if not (ROOT / folder).is_dir()]
