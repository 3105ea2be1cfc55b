"""Would a suite run tonight: everything that is missing at once, the largest first."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from vitptq.bench import suite_check
from vitptq.bench.contracts.task import Lack
from vitptq.bench.errors import BadInput
from vitptq.bench.registry import task
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.suites import Group, expand

LACKS = [Lack("the checkpoint of a is not here", 88_000_000), Lack("the library is not here"), Lack("the data", 10**10)]


@pytest.fixture
def asked(cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let the tiny task lack things, and list which models it was asked for."""
    models: list[list[str]] = []

    def lacks(_self: object, wanted: Iterable[str]) -> list[Lack]:
        models.append(list(wanted))
        return LACKS

    monkeypatch.setattr(type(task("tiny", "test")), "lacks", lacks)
    return models


def test_everything_is_named_once_the_largest_first(cells: list[Cell], asked: list[list[str]], tmp_path: Path) -> None:
    found = suite_check.check(cells, {}, tmp_path)
    assert found.lines() == [
        "  10.0 GB  the data", "  88.0 MB  the checkpoint of a is not here", "        -  the library is not here"
    ]  # fmt: skip
    assert asked == [["vit"]]
    assert found.summary("tiny").startswith("tiny would not run: 3 things are missing, about 10.1 GB; then 5 cells, ")


def test_suite_without_a_lack_would_run(cells: list[Cell], tmp_path: Path) -> None:
    found = suite_check.check(cells, {}, tmp_path)
    assert found.lacks == []
    assert found.summary("tiny").startswith("tiny would run: 5 cells, about ")


def test_room_on_disk_is_a_lack_too(cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = type(task("tiny", "test"))
    rooms = {tmp_path / "images" / "a": 10**9, tmp_path / "images" / "b": 10**6}
    monkeypatch.setattr(tiny, "room_for_images", lambda self, model, size, seed: rooms)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=10**6))
    (lack,) = suite_check.check(cells, {}, tmp_path).lacks
    assert lack.bytes == 10**9
    assert lack.text.startswith(
        f"room for decoded images: 1.0 GB are needed at {tmp_path / 'images'}, 1.0 MB are free; "
    )


def test_task_that_cannot_be_asked_is_a_lack(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(_self: object, _models: Iterable[str]) -> list[Lack]:
        raise BadInput("checkpoints.toml is damaged")

    monkeypatch.setattr(type(task("tiny", "test")), "lacks", lacks)
    assert [lack.text for lack in suite_check.check(cells, {}, tmp_path).lacks] == ["checkpoints.toml is damaged"]


def test_full_suite_says_what_to_fetch_with_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_DATA", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    group = Group(
        task="imagenet", edition="full", models=["deit_tiny_patch16_224.fb_in1k"], methods=["minmax"], bits=["W8A8"]
    )
    data, checkpoint = suite_check.check(expand(group), {}, tmp_path).lacks
    assert data.text.startswith("ImageNet is needed: ") and data.bytes > 10**11
    assert checkpoint.text.startswith("the checkpoint of deit_tiny") and checkpoint.bytes == 22_869_664
