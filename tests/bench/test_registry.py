"""The registry: files, entry points, duplicates."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from vitptq.bench import registry
from vitptq.bench.errors import BadInput, UnknownName

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
        ("import nonsense_that_is_not_there", "cannot be imported: ModuleNotFoundError"),
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
    with registry.temporary():
        registry._forget()
        assert "from_elsewhere" in registry.methods()
    assert registry.source_hash(registry.method("minmax"))


def test_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="imagenet/full, imagenet/mini"):
        registry.task("imagenet", "huge")


def test_source_hash_follows_shared_code(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = registry._sources(registry.method("omse"))
    assert {
        "adapter",
        "vitptq.methods.core.ranges.estimation",
        "vitptq.methods.core.quantizers.uniform",
        "vitptq.methods.core.model.families.swin",
    } <= set(sources)
    assert "vitptq.methods.repq_vit" not in sources


def test_bench_names_no_method_and_no_task() -> None:
    folder = Path(registry.__file__).parent
    for path in folder.rglob("*.py"):
        for name in registry._imports(path.read_bytes(), f"bench.{path.stem}", ("vitptq.methods", "vitptq.tasks")):
            pytest.fail(f"{path} imports {name}")
