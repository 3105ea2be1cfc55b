"""The report on a machine, with tasks made up for it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vitptq.bench import doctor, registry
from vitptq.bench.doctor import Report
from vitptq.bench.errors import BadInput, UnknownName

NEEDED = "The data set of this task is needed: download it from https://example.org and unpack it to data/x"


def task(
    problems: dict[str, list[str] | Exception], where: str = "9 evaluation images in data/x", optional: str = ""
) -> Any:
    def asked(model: str) -> list[str]:
        answer = problems[model]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SimpleNamespace(
        models=lambda: {model: SimpleNamespace(optional=model == optional) for model in problems},
        problems=asked,
        data_location=lambda: where,
        location=lambda model: f"weights in data/{model}.pth",
    )


def report(monkeypatch: pytest.MonkeyPatch, tasks: dict[tuple[str, str], Any], *names: str) -> tuple[list[str], Report]:
    monkeypatch.setattr(registry, "tasks", lambda: tasks)
    monkeypatch.setattr(doctor, "_machine", lambda results: iter(()))
    found = Report(Path(), names)
    return [f"{'ok' if one.fine else 'problem'} {one.what}: {one.text}" for one in found.findings()], found


def test_a_ready_task_counts_its_images_once_and_names_each_models_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, found = report(monkeypatch, {("digits", "mini"): task({"a": [], "b": []})})
    assert lines == [
        "ok digits/mini: 9 evaluation images in data/x",
        "ok digits/mini a: ready; weights in data/a.pth",
        "ok digits/mini b: ready; weights in data/b.pth",
    ]
    assert found.summary() == "ready: digits/mini"


def test_a_model_that_needs_an_extra_is_left_out_and_the_task_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {("digits", "mini"): task({"a": [], "big": ["big is not installed here: install it"]}, optional="big")}
    lines, found = report(monkeypatch, tasks)
    assert lines[-1] == "ok digits/mini big: left out; big is not installed here: install it"
    assert found.summary() == "ready: digits/mini"


def test_what_all_models_lack_is_said_once_and_what_one_lacks_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {("coco", "full"): task({"a": [NEEDED], "b": [NEEDED, "the checkpoint of b is not here"]})}
    lines, found = report(monkeypatch, tasks)
    assert lines == [
        f"problem coco/full: {NEEDED}",
        "problem coco/full a: as coco/full",
        "problem coco/full b: the checkpoint of b is not here",
    ]
    assert found.summary() == "not ready: coco/full"


def test_a_long_text_is_not_repeated_by_the_next_task(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {("coco", edition): task({"a": [NEEDED]}) for edition in ("full", "mini")}
    lines, _ = report(monkeypatch, tasks)
    assert sum(NEEDED in line for line in lines) == 1
    assert "problem coco/mini: As for coco/full." in lines


def test_a_model_that_cannot_be_asked_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, found = report(monkeypatch, {("coco", "full"): task({"a": BadInput("the card is damaged"), "b": []})})
    assert "problem coco/full a: the card is damaged" in lines
    assert "ok coco/full b: ready; weights in data/b.pth" in lines
    assert found.summary() == "not ready: coco/full"


@pytest.mark.parametrize("name", ["coco", "mini", "coco/mini"])
def test_only_the_named_tasks_are_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tasks = {("coco", "mini"): task({"a": []}), ("imagenet", "full"): task({"a": AssertionError("asked")})}  # type: ignore[dict-item]
    _, found = report(monkeypatch, tasks, name)
    assert found.summary() == "ready: coco/mini"


def test_an_unknown_task_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match='unknown task "coko".* did you mean "coco"'):
        report(monkeypatch, {("coco", "mini"): task({"a": []})}, "coko")


def test_results_in_the_place_of_a_file_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = doctor._disk(tmp_path / "file" / "results")
    assert not found.fine and found.text.startswith(f"{tmp_path / 'file'} is not a folder: name another place")
