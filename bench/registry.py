"""Find methods, tasks and suites: in their folders, by entry point, or in a file named on the command line."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from vitptq.bench.contracts.method import Method
from vitptq.bench.contracts.task import Task
from vitptq.bench.errors import BadInput, UnknownName, VitptqError, described

METHODS, TASKS = "vitptq.methods", "vitptq.tasks"
TASK_ROOMS = ("classification", "detection", "segmentation", "mini")


_added: tuple[ModuleType, ...] = ()
"""The files named by the user: never changed in place, put back by `temporary`. They belong to the whole process, since
what a command names must be known in each of its threads, which a context variable would not do."""


def methods() -> dict[str, type[Method]]:
    """Return every method by name: from `methods/`, third parties' entry points, and files named by the user."""
    return _methods(_added)


@cache
def _methods(added: tuple[ModuleType, ...]) -> dict[str, type[Method]]:
    modules = [*_modules(METHODS), *_entry_points(METHODS), *added]
    found: dict[str, type[Method]] = {}
    for cls in (cls for module in modules for cls in _classes(module, Method)):
        if cls.name in found and found[cls.name] is not cls:
            raise BadInput(f'two methods are called "{cls.name}": {_place(found[cls.name])} and {_place(cls)}')
        found[cls.name] = cls
    return dict(sorted(found.items()))


def tasks() -> dict[tuple[str, str], Task]:
    """Return every task by (name, edition), from the same three places; closed to data-free methods."""
    sys.audit("vitptq.tasks")  # refused while a data-free method works: bench/isolation/image_guard.py
    return _tasks(_added)


@cache
def _tasks(added: tuple[ModuleType, ...]) -> dict[tuple[str, str], Task]:
    rooms = [module for room in TASK_ROOMS for module in _modules(f"vitptq.tasks.{room}")]
    modules = [*rooms, *_entry_points(TASKS), *added]
    found: dict[tuple[str, str], Task] = {}
    for cls in (cls for module in modules for cls in _classes(module, Task)):
        key = (cls.name, cls.edition)
        if key in found and type(found[key]) is not cls:
            raise BadInput(f"two tasks are called {key[0]}/{key[1]}: {_place(type(found[key]))} and {_place(cls)}")
        found[key] = cls()
    return found


def method(name: str) -> type[Method]:
    """Return a method by name, or the only one of a file (`path/to/adapter.py`)."""
    if name.endswith(".py"):
        found = list(_classes(add_file(Path(name)), Method))
        if len(found) != 1:
            names = ", ".join(cls.__name__ for cls in found) or "none"
            raise BadInput(f"method file {name} must define exactly one Method; it defines {names}")
        name = found[0].name
    known = methods()
    if name not in known:
        raise UnknownName("method", name, known)
    return known[name]


def task(name: str, edition: str) -> Task:
    """Return a task by name and edition."""
    known = tasks()
    if (name, edition) not in known:
        raise UnknownName("task", f"{name}/{edition}", (f"{n}/{e}" for n, e in known))
    return known[name, edition]


def add_file(path: Path) -> ModuleType:
    """Load a Python file that defines methods or tasks, and register them for this process."""
    from vitptq.bench.isolation.adapter_import import watched  # here, because it imports torch

    global _added
    path = path.resolve()
    if path in added_files():
        return _added[added_files().index(path)]
    if not path.is_file():
        raise BadInput(f"adapter file {path} does not exist; name a Python file that defines a Method or a Task")
    module_name = f"vitptq_adapter_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    methods()  # with the tasks, before: what these import is no doing of the file
    try:
        watched(
            partial(spec.loader.exec_module, module),
            tasks().values(),
            lambda: any(cls.category == "data-free" for cls in _classes(module, Method)),
        )
    except VitptqError as error:
        raise BadInput(f"adapter file {path} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise BadInput(f"adapter file {path} cannot be imported: {described(error, path)}") from error
    before, _added = _added, (*_added, module)
    try:
        methods(), tasks()
    except BadInput:
        _added = before
        raise
    return module


def is_own(cls: type) -> bool:
    """Tell whether a method or task is this project's, not of a file that a person named or of another package."""
    return cls.__module__.startswith("vitptq.")


def added_files() -> tuple[Path, ...]:
    """Return the files named by the user, for the workers to load."""
    return tuple(Path(str(module.__file__)) for module in _added)


def own_files() -> dict[str, Path]:
    """Return the file of every method that a user named as a file without tasks: only the method's cells need it."""
    modules = [module for module in _added if not any(_classes(module, Task))]
    return {cls.name: Path(str(module.__file__)) for module in modules for cls in _classes(module, Method)}


@contextmanager
def temporary() -> Iterator[None]:
    """Forget on leaving what was registered inside."""
    global _added
    before = _added
    try:
        yield
    finally:
        _added = before


def _modules(package_name: str) -> Iterator[ModuleType]:
    package = importlib.import_module(package_name)
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg:
            yield importlib.import_module(f"{package_name}.{info.name}")


def _entry_points(group: str) -> Iterator[ModuleType]:
    for point in entry_points(group=group):
        try:
            loaded = point.load()
        except Exception as error:
            origin = point.dist.name if point.dist else "an installed package"
            raise BadInput(
                f'entry point "{point.name}" of {origin} cannot be loaded: {error}; repair or remove it'
            ) from error
        yield loaded if isinstance(loaded, ModuleType) else importlib.import_module(loaded.__module__)


def _classes(module: ModuleType, base: type[Any]) -> Iterator[type[Any]]:
    """Yield the finished subclasses of `base` that `module` itself defines."""
    for value in vars(module).values():
        own = isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
        if own and not inspect.isabstract(value) and hasattr(value, "name"):
            yield value


def _place(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
