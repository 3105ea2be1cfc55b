"""Say what is on this machine, what is missing or wrong, and what to do about it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import torch

from vitptq.bench import registry
from vitptq.bench.contracts.task import Task
from vitptq.bench.errors import UnknownName, VitptqError
from vitptq.bench.run import provenance
from vitptq.bench.run.costs import MIB

LONG = 40
"""Characters from which on a text is not printed a second time."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    text: str
    fine: bool = True


@dataclass(slots=True)
class Report:
    """The findings in their order; `ready` and `not_ready` name the tasks once all of them were read."""

    results: Path
    tasks: Sequence[str] = ()
    """Names such as `imagenet/mini`, `coco` or `mini`; empty: every task."""
    ready: list[str] = field(default_factory=list)
    not_ready: list[str] = field(default_factory=list)
    _said: dict[str, str] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """Yield what there is to say of versions, devices and disk, and of each task's data and checkpoints."""
        chosen = _chosen(self.tasks)
        yield from _machine(self.results)
        for name, task in chosen.items():
            yield from self._task(name, task)

    def summary(self) -> str:
        """Return which tasks a run could start on, and which not."""
        parts = {"ready": self.ready, "not ready": self.not_ready}
        return "; ".join(f"{words}: {', '.join(names)}" for words, names in parts.items() if names)

    def _task(self, name: str, task: Task) -> Iterator[Finding]:
        """Yield what concerns all models of a task once, and each model."""
        cards = task.models()
        problems = {model: _problems(task, model) for model in cards}
        shared = [text for text in next(iter(problems.values()), []) if all(text in one for one in problems.values())]
        if shared:
            yield Finding(name, self._once(shared, name), fine=False)
        elif problems and (where := _where(task.data_location)):
            yield Finding(name, where)
        for model, texts in problems.items():
            what, own = f"{name} {model}", [text for text in texts if text not in shared]
            if own and cards[model].optional:
                yield Finding(what, f"left out; {self._once(own, what)}")
            elif own:
                yield Finding(what, self._once(own, what), fine=False)
            elif shared:
                yield Finding(what, f"as {name}", fine=False)
            else:
                yield Finding(what, f"ready; {_where(partial(task.location, model))}".removesuffix("; "))
        hindered = any(texts and not cards[model].optional for model, texts in problems.items())
        (self.not_ready if hindered else self.ready).append(name)

    def _once(self, texts: Sequence[str], what: str) -> str:
        """Return the texts; a long one that was printed before is replaced by where that was."""
        return " ".join(
            f"As for {first}." if (first := self._said.setdefault(text, what)) != what and len(text) >= LONG else text
            for text in texts
        )


def _chosen(names: Sequence[str]) -> Mapping[str, Task]:
    known = {f"{task}/{edition}": found for (task, edition), found in sorted(registry.tasks().items())}
    accepted = sorted({*known, *(part for name in known for part in name.split("/"))})
    for name in names:
        if name not in accepted:
            raise UnknownName("task", name, accepted)
    return {name: task for name, task in known.items() if not names or {name, *name.split("/")} & set(names)}


def _problems(task: Task, model: str) -> list[str]:
    try:
        return task.problems(model)
    except VitptqError as error:
        return [str(error)]


def _where(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except VitptqError as error:
        return str(error)


def _machine(results: Path) -> Iterator[Finding]:
    for name, found in provenance.versions().items():
        yield Finding(f"version of {name}", found)
    yield _compiled_operators()
    yield Finding("CPU", f"{provenance.device_name(torch.device('cpu'))}, {psutil.cpu_count()} cores")
    yield Finding("memory", f"{psutil.virtual_memory().total / 1024 / MIB:.1f} GiB")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        yield Finding(f"cuda:{index}", provenance.device_name(torch.device("cuda", index)))
    if not torch.cuda.is_available():
        yield Finding("GPU", "none; the mini edition needs none, the full editions take days without one")
    yield _disk(results)


def _disk(results: Path) -> Finding:
    place = next(folder for folder in (results, *results.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        why = "cannot be written to" if place.is_dir() else "is not a folder"
        return Finding("results", f"{place} {why}: name another place with --results", fine=False)
    free = shutil.disk_usage(place).free / 1024 / MIB
    return Finding("free disk for results", f"{free:.1f} GiB at {place}", free > 1)


def _compiled_operators() -> Finding:
    """Try mmcv's compiled operators: a build without torch installs silently and fails only when they are used."""
    try:
        from mmcv.ops import nms  # noqa: F401
    except ImportError as error:
        step = "run: python -m vitptq.tasks.openmmlab.install_mmcv"
        return Finding("mmcv operators", f"not usable ({error}); {step}", fine=False)
    return Finding("mmcv operators", "compiled and importable")
