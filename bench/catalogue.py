"""What the project's own code says of itself, remembered between commands: methods, metrics, the cells of suites.

Finding that out imports torch, timm and every adapter, which takes seconds; a command that measures nothing needs none
of them. What is remembered belongs to the content of the code and data it came from: a changed file is another entry,
and all of it may go at any time. Where adapters come from elsewhere (a named file, an entry point), nothing is kept.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

import vitptq
from vitptq.bench import registry
from vitptq.bench.board.method_card import MethodCard
from vitptq.bench.contracts.locations import OWN_CHECKPOINTS, cache_root, checkpoint_root, data_root, image_cache
from vitptq.bench.contracts.method import Method
from vitptq.bench.contracts.task import Metric, ModelCard, Task, ranking
from vitptq.bench.errors import VitptqError
from vitptq.bench.files import remove, write_atomically
from vitptq.bench.results import suites
from vitptq.bench.results.cell import Cell, canonical_json, sha256
from vitptq.bench.run.disk_estimate import ImageRoom
from vitptq.bench.source_hash import METHODS, source_hash, sources

ROOMS = ("bench", "methods", "tasks")
READ = {".py", ".json", ".csv", ".toml"}
"""What of the project decides the answers; weights and pictures count by name, size and time."""
SKIPPED = {"__pycache__", "board", "website"}
MOST_ENTRIES = 64
MOST_BYTES = 2**28
CELLS = TypeAdapter(list[Cell])


def cells(suite: str, methods: Sequence[str] = ()) -> list[Cell]:
    """Return the cells of a suite as `suites.load` does; `methods` replace those that the suite lists."""
    content = sha256(b"\0".join(path.read_bytes() for path in suites.files_of(suite)))
    kind = canonical_json(["cells", content, list(methods)])
    added = any(name.endswith(".py") for name in methods)
    found: list[Cell] = _remembered(kind, lambda: suites.load(suite, methods), CELLS.validate_json, added=added)
    return found


def method_cards() -> dict[str, MethodCard]:
    """Return the card of every installed method, by name."""
    made = _remembered("methods", lambda: {name: asdict(_card(cls)) for name, cls in registry.methods().items()})
    return {name: MethodCard(**card | {"inferred": tuple(card["inferred"])}) for name, card in made.items()}


def metrics() -> dict[tuple[str, str], tuple[Metric, ...]]:
    """Return what every installed task declares of its scores, by task and edition."""
    made = _remembered(
        "metrics", lambda: [[*key, [asdict(m) for m in task.metrics]] for key, task in registry.tasks().items()]
    )
    return {(name, edition): tuple(Metric(**metric) for metric in declared) for name, edition, declared in made}


def ranking_metrics() -> dict[tuple[str, str], str]:
    """Return the name of the score that ranks in every installed task, by task and edition."""
    return {key: ranking(declared).name for key, declared in metrics().items()}


def models() -> list[str]:
    """Return the names of all models."""
    made = _remembered("models", lambda: sorted({name for task in registry.tasks().values() for name in task.models()}))
    return list(made)


def model_cards(edition: str) -> dict[str, dict[str, ModelCard]]:
    """Return the cards of an edition's models by task and name, without their details."""
    made = _remembered(
        canonical_json(["cards", edition]),
        lambda: {name: _plain_cards(task) for (name, own), task in registry.tasks().items() if own == edition},
    )
    return {
        task: {name: ModelCard(**card | {"groups": tuple(card["groups"])}) for name, card in cards.items()}
        for task, cards in made.items()
    }


def _plain_cards(task: Task) -> dict[str, dict[str, Any]]:
    return {name: asdict(replace(card, details={})) for name, card in task.models().items()}


def drawing_tasks() -> set[tuple[str, str]]:
    """Return the tasks that draw what a model found, by name and edition."""
    made = _remembered(
        "drawing", lambda: [key for key, task in registry.tasks().items() if type(task).scenes is not Task.scenes]
    )
    return {(name, edition) for name, edition in made}


def image_room(cells: Sequence[Cell]) -> ImageRoom:
    """Return what the decoded images of the cells take on disk."""
    reads = sorted(ImageRoom.reads(cells))
    kind = canonical_json(["room", reads, str(data_root()), str(image_cache())])
    made = _remembered(kind, lambda: {str(folder): room for folder, room in ImageRoom.of(cells).needed.items()})
    return ImageRoom({Path(folder): room for folder, room in made.items()})


def families() -> dict[str, str]:
    """Return by method what takes its time: it observes ranges, searches, reconstructs or generates images."""
    made = _remembered("families", lambda: {name: _family(cls) for name, cls in registry.methods().items()})
    return dict(made)


def _family(cls: type[Method]) -> str:
    """Tell by the shared code that a method uses."""
    used = {name.removeprefix(f"{METHODS}.core.").split(".")[0] for name in sources(cls)}
    kinds = {"reconstruct": "reconstruct", "datafree": "generate", "search": "search"}
    return next((kind for room, kind in kinds.items() if room in used), "observe")


def _card(cls: type[Method]) -> MethodCard:
    return MethodCard(
        name=cls.name, title=cls.title, summary=inspect.cleandoc(cls.__doc__ or ""), fidelity=cls.fidelity,
        inferred=cls.inferred, parity=dict(cls.parity), parity_test=cls.parity_test, category=cls.category,
        paper=cls.paper, source_hash=source_hash(cls),
    )  # fmt: skip


def _remembered(
    kind: str, make: Callable[[], Any], read: Callable[[bytes], Any] = from_json, *, added: bool = False
) -> Any:  # fmt: skip
    """Return `make()`, or `read` what it returned, as JSON, when a command last asked for `kind` of the same code."""
    place = None if added or registry.added_files() or _others() else _place(kind)
    if place is None:
        return make()
    with suppress(OSError, ValueError):
        return read(place.read_bytes())
    made = make()
    with suppress(OSError, VitptqError):
        write_atomically(place, to_json(made))
        _prune(place.parent)
    return made


def _place(kind: str) -> Path | None:
    folder, own = cache_root(), checkpoint_root() / OWN_CHECKPOINTS
    described = own.read_text(encoding="utf-8", errors="replace") if own.is_file() else ""
    name = hashlib.sha256("\0".join((kind, fingerprint(), described)).encode()).hexdigest()
    return folder / f"{name}.json" if folder else None


@cache
def fingerprint() -> str:
    """Return a hash over the content of the project's code and data, and of the Python that runs it."""
    digest = hashlib.sha256(sys.version.encode())
    top = Path(vitptq.__file__).parent
    for room in ROOMS:
        for folder, folders, files in os.walk(top / room, followlinks=True):
            folders[:] = sorted(set(folders) - SKIPPED)
            for name in sorted(files):
                path = Path(folder, name)
                digest.update(f"{path.relative_to(top)}\0".encode())
                if path.suffix in READ:
                    digest.update(hashlib.sha256(path.read_bytes()).digest())
                else:
                    found = path.stat()
                    digest.update(f"{found.st_size} {found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _others() -> bool:
    """Tell whether another distribution brings methods or tasks."""
    return any(entry_points(group=f"{vitptq.__name__}.{room}") for room in ("methods", "tasks"))


def _prune(folder: Path) -> None:
    """Keep the newest entries."""
    room = MOST_BYTES
    for i, path in enumerate(sorted(folder.glob("*.json"), key=lambda path: -path.stat().st_mtime)):
        room -= path.stat().st_size
        if i and (i >= MOST_ENTRIES or room < 0):
            remove(path)
