"""Find methods, tasks and suites: in their folders, by entry point, or in a file named on the command line."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import vitptq
from vitptq.bench.contracts.method import Method
from vitptq.bench.contracts.task import Task
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.run import image_guard

METHODS, TASKS = "vitptq.methods", "vitptq.tasks"
TASK_ROOMS = ("classification", "detection", "segmentation", "mini")


_files_named: dict[Path, ModuleType] = {}


@cache
def methods() -> dict[str, type[Method]]:
    """Return every method by name: from `methods/`, third parties' entry points, and files named by the user."""
    modules = [*_modules("vitptq.methods"), *_entry_points(METHODS), *_files_named.values()]
    found: dict[str, type[Method]] = {}
    for cls in (cls for module in modules for cls in _classes(module, Method)):
        if cls.name in found and found[cls.name] is not cls:
            raise BadInput(f'two methods are called "{cls.name}": {_place(found[cls.name])} and {_place(cls)}')
        found[cls.name] = cls
    return dict(sorted(found.items()))


def tasks() -> dict[tuple[str, str], Task]:
    """Return every task by (name, edition), from the same three places; closed to data-free methods."""
    image_guard.refuse("asked the registry for tasks")
    return _tasks()


@cache
def _tasks() -> dict[tuple[str, str], Task]:
    rooms = [module for room in TASK_ROOMS for module in _modules(f"vitptq.tasks.{room}")]
    modules = [*rooms, *_entry_points(TASKS), *_files_named.values()]
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
    path = path.resolve()
    if path in _files_named:
        return _files_named[path]
    if not path.is_file():
        raise BadInput(f"adapter file {path} does not exist; name a Python file that defines a Method or a Task")
    module_name = f"vitptq_adapter_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BadInput(f"adapter file {path} cannot be imported: {type(error).__name__}: {error}") from error
    _files_named[path] = module
    _forget()
    try:
        methods(), tasks()
    except BadInput:
        del _files_named[path]
        _forget()
        raise
    return module


def added_files() -> tuple[Path, ...]:
    """Return the files named by the user, for the workers to load."""
    return tuple(_files_named)


@contextmanager
def temporary() -> Iterator[None]:
    """Forget on leaving what was registered inside."""
    before = dict(_files_named)
    try:
        yield
    finally:
        _files_named.clear()
        _files_named.update(before)
        _forget()


def _forget() -> None:
    methods.cache_clear()
    _tasks.cache_clear()


@cache
def source_hash(cls: type[Method]) -> str:
    """Hash the adapter's source and that of every module of `methods` it imports, directly or not."""
    digest = hashlib.sha256()
    for name, source in sorted(_sources(cls).items()):
        digest.update(f"{name}\0{hashlib.sha256(source).hexdigest()}\0".encode())
    return digest.hexdigest()


def _sources(cls: type[Method]) -> dict[str, bytes]:
    waiting, found = [(cls.__module__, Path(inspect.getfile(cls)))], dict[str, bytes]()
    while waiting:
        name, path = waiting.pop()
        key = "adapter" if name == cls.__module__ else name
        if key in found:
            continue
        found[key] = path.read_bytes()
        packages = (METHODS, cls.__module__ if cls.__module__.startswith(METHODS) else cls.__module__.split(".")[0])
        waiting += [m for imported in _imports(found[key], name, packages) for m in _files(imported)]
    return found


def _imports(source: bytes, module: str, packages: tuple[str, ...]) -> Iterator[str]:
    """Yield the modules of `packages` that a source names, and what is imported from them: that may be modules too."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            if base == vitptq.__name__:  # the public surface: what is behind each name
                names += [f"{base}.{vitptq.SOURCES[a.name]}" for a in node.names if a.name in vitptq.SOURCES]
        yield from (name for name in names if any(name == p or name.startswith(f"{p}.") for p in packages))


def _files(name: str) -> Iterator[tuple[str, Path]]:
    """Yield a module's file, and for the families those of the folder, where they are found without an import."""
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # an imported name that is not a module
        return
    if spec is None or spec.origin is None:
        return
    yield name, Path(spec.origin)
    if name.endswith(".families"):
        for path in sorted(Path(spec.origin).parent.glob("*.py")):
            yield f"{name}.{path.stem}", path


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
