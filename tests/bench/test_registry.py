"""The registry: files, entry points, duplicates."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vitptq.bench import registry
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.source_hash import imported

ADAPTER = (Path(__file__).parents[2] / "methods" / "minmax.py").read_text()


def write(folder: Path, name: str, text: str = ADAPTER) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text.replace('name = "minmax"', f'name = "{name}"'))
    return path


def test_method_from_a_file_is_known_inside_only(tmp_path: Path) -> None:
    with registry.temporary():
        assert registry.method(str(write(tmp_path, "mine"))).name == "mine"
        assert "mine" in registry.methods()
    assert "mine" not in registry.methods()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "must define exactly one Method; it defines none"),
        ("import nonsense_that_is_not_there", r"cannot be imported: ModuleNotFoundError: .* \(bad.py, line 1\)"),
        ("x = 1\n1 / 0\n", r"cannot be imported: ZeroDivisionError: division by zero \(bad.py, line 2\)"),
        ("x = 1\ny = = 2\n", r"cannot be imported: SyntaxError: invalid syntax \(bad.py, line 2\)"),
        ("import sys; sys.exit(3)", r"cannot be imported: SystemExit: 3 \(bad.py, line 1\)"),
        (ADAPTER, 'two methods are called "minmax": vitptq.methods.minmax.MinMax and'),
    ],
)
def test_bad_file_is_refused_and_forgotten(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with registry.temporary(), pytest.raises(BadInput, match=words):
        registry.method(str(path))
    assert "minmax" in registry.methods()


def test_entry_points_of_other_distributions_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "from_elsewhere")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("from_elsewhere", "from_elsewhere", registry.METHODS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == registry.METHODS else [])
    registry._methods.cache_clear()
    assert "from_elsewhere" in registry.methods()
    registry._methods.cache_clear()


def test_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="imagenet/full, imagenet/mini"):
        registry.task("imagenet", "huge")


def test_bench_names_no_method_and_no_task() -> None:
    folder = Path(registry.__file__).parent
    for path in folder.rglob("*.py"):
        for name in imported(path.read_bytes(), "vitptq.bench", ("vitptq.methods", "vitptq.tasks")):
            pytest.fail(f"{path} imports {name}")
