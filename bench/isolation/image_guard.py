"""Which images are out of reach, and when.

All of them while a data-free method works or an adapter's file is imported, those of the evaluation while any method
works.

Closed inside are files below the folders that the tasks name, also to readers that open files without telling Python,
and the registry of tasks; to a data-free method new processes too. Decoded images that the process keeps in memory are
put away before. An attempt fails the cell, also where the method swallowed the error.

This stops accidents and plain cheating, not an attacker: docs/protocol.md says what is left.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

from vitptq.bench.contracts.task import Task
from vitptq.bench.errors import BadInput

FILE_EVENTS = frozenset({"open", "os.listdir", "os.scandir", "os.link", "os.symlink", "os.rename"})
PROCESS_EVENTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"})
NATIVE_READERS = {
    "av": ("open",),
    "cv2": ("imread", "imreadanimation", "imreadmulti", "imcount", "VideoCapture", "FileStorage"),
    "decord": ("VideoReader",),
    "h5py": ("File",),
    "lmdb": ("open", "Environment"),
    "pyarrow": ("OSFile", "input_stream", "memory_map"),
    "torch": ("from_file",),
    "torchvision.io": ("VideoReader", "decode_image", "read_file", "read_image", "read_video"),
    "torchvision.io.image": ("decode_image", "read_file", "read_image"),
}
"""Functions that read files in C++, where no audit event tells of it, by module."""
UNNAMED_FILE = getattr(os, "O_TMPFILE", 0)

DATA_FREE = "a data-free method may not read any image: it {}; drop that, or let the adapter's category be ptq"
EVALUATION = "a method may not read the evaluation's images: it {}; what it may see comes from `calibration`"
IMPORT = "an adapter may not read images while it is imported: it {}; what it may see comes from `calibration`"


_import_module = importlib.import_module


class ReadsImages(BadInput):
    """A method tried to reach an image that is closed to it."""


@dataclass
class Closed:
    """What is out of reach now."""

    roots: tuple[str, ...]
    sentence: str
    """What an attempt is answered with; `{}` stands for what was done, in the past tense."""
    processes: bool
    """Whether processes may be started."""
    attempts: list[str] = field(default_factory=list)
    processes_started: list[str] = field(default_factory=list)
    readers: ExitStack = field(default_factory=ExitStack)
    children: frozenset[str] = field(default_factory=lambda: frozenset(_children()))
    """Processes that this one had started before."""

    def refuse(self, attempt: str) -> None:
        """Note an attempt and raise."""
        self.attempts.append(attempt)
        raise ReadsImages(self.sentence.format(attempt))

    def check(self, path: object, how: str = "opened", flags: object = 0) -> None:
        """Refuse a path at or below a closed folder, and to open a folder above one, from which relative ways lead."""
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        inside = any(real == root or real.startswith(root + os.sep) for root in self.roots)
        above = how == "opened" and any(root.startswith(real.rstrip(os.sep) + os.sep) for root in self.roots)
        if inside or (above and not _is_unnamed_file(flags)):
            self.refuse(f"{how} {real}")

    def watch_readers(self, module: Any) -> None:
        """Let the native readers of a module look at the path first."""
        for name in NATIVE_READERS[module.__name__]:
            if hasattr(module, name):
                called = f"{module.__name__}.{name}"
                self.readers.enter_context(patch.object(module, name, self._checked(getattr(module, name), called)))

    def watch_import(self) -> None:
        """Let `importlib.import_module`, which tells the audit hook nothing, have its modules watched."""
        import_module = importlib.import_module

        def watched(name: str, package: str | None = None) -> ModuleType:
            loaded = set(sys.modules)
            module = import_module(name, package)
            for new in (set(sys.modules) - loaded) & set(NATIVE_READERS):
                self.watch_readers(sys.modules[new])
            return module

        self.readers.enter_context(patch.object(importlib, "import_module", watched))

    def _checked(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def checked(*args: Any, **kwargs: Any) -> Any:
            for path in (*args[:2], *kwargs.values()):  # a method of a class has the path second
                self.check(path, f"called {name} with")
            return function(*args, **kwargs)

        return checked


def _is_unnamed_file(flags: object) -> bool:
    """Tell whether a folder is opened only to write a file without a name, as tempfile does."""
    return isinstance(flags, int) and UNNAMED_FILE != 0 and flags & UNNAMED_FILE == UNNAMED_FILE


class _Guard:
    """What the audit hook looks at. A hook cannot be removed, so there is one, and it is mostly idle."""

    def __init__(self) -> None:
        self.installed = False
        self.closed: Closed | None = None
        self._importing = threading.local()

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        closed = self.closed
        if closed is None or getattr(self._importing, "now", False):
            return
        if event == "open":
            closed.check(arguments[0], "opened", arguments[2])
        elif event in FILE_EVENTS:
            for argument in arguments[:2]:
                closed.check(argument, "looked at")
        elif event in PROCESS_EVENTS:
            closed.processes_started.append(event)
            if not closed.processes:
                closed.refuse(f"started a process ({event})")
        elif event == "vitptq.tasks":  # raised by the registry
            closed.refuse("asked the registry for tasks")
        elif event == "import" and arguments[0] in NATIVE_READERS and arguments[0] not in sys.modules:
            self._import(arguments[0], closed)

    def _import(self, name: str, closed: Closed) -> None:
        """Import a module of native readers now, so that they are watched before anybody can call them."""
        self._importing.now = True
        try:
            module = _import_module(name)
        except ImportError:
            return  # whoever asked is told in the usual way
        finally:
            self._importing.now = False
        closed.watch_readers(module)


_guard = _Guard()


def active() -> bool:
    """Tell whether images are out of reach now."""
    return _guard.closed is not None


@contextmanager
def closed_images(tasks: Iterable[Task]) -> Iterator[None]:
    """Let a data-free method read no image of `tasks` inside; raise ReadsImages at the end where it was tried."""
    tasks = list(tasks)
    for task in tasks:
        task.drop_images()
    with _closed((f for task in tasks for f in task.image_folders()), DATA_FREE, processes=False):
        yield


@contextmanager
def closed_evaluation(tasks: Iterable[Task]) -> Iterator[None]:
    """Let a method read no evaluation image of `tasks` inside; raise ReadsImages at the end where it was tried."""
    tasks = list(tasks)
    with ExitStack() as stack:
        for task in tasks:
            stack.enter_context(task.images_set_aside())
        folders = (f for task in tasks for f in task.evaluation_folders())
        stack.enter_context(_closed(folders, EVALUATION, processes=True))
        yield


def closed_import(tasks: Iterable[Task]) -> AbstractContextManager[Closed]:
    """Let an adapter's file read no image of `tasks` while it is imported.

    Processes may start, as packages that look for a compiler do; what is returned tells of them.
    """
    return _closed((f for task in tasks for f in task.image_folders()), IMPORT, processes=True)


def refuse_processes(closed: Closed, *, data_free: bool) -> None:
    """Raise where a file started a process while it was imported that could read what the file itself may not.

    One that has ended can have left nothing but what the importing code took from it, which matters where no image may
    be seen at all.
    """
    if closed.processes_started and data_free:
        raise ReadsImages(closed.sentence.format(f"started a process ({closed.processes_started[0]})"))
    if closed.processes_started and set(_children()) - closed.children:
        raise ReadsImages(closed.sentence.format("left a process running"))


def _children() -> list[str]:
    """Return the ids of this process's running children (Linux; elsewhere none are seen)."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    listed = (folder / "children" for folder in tasks.iterdir()) if tasks.is_dir() else ()
    return [child for path in listed for child in path.read_text().split()]


@contextmanager
def _closed(folders: Iterable[Path], sentence: str, *, processes: bool) -> Iterator[Closed]:
    roots = tuple(sorted({str(folder.resolve()) for folder in folders}))
    closed = Closed(roots, sentence, processes)
    if not _guard.installed:
        sys.addaudithook(_guard.hook)
        _guard.installed = True
    before = _guard.closed
    with closed.readers:
        for name in NATIVE_READERS:
            if name in sys.modules:
                closed.watch_readers(sys.modules[name])
        from_file = closed._checked(torch.UntypedStorage.from_file, "torch.UntypedStorage.from_file")
        closed.readers.enter_context(patch.object(torch.UntypedStorage, "from_file", from_file))
        closed.watch_import()
        _guard.closed = closed
        try:
            yield closed
        finally:
            _guard.closed = before
    if closed.attempts:
        raise ReadsImages(sentence.format(closed.attempts[0]))
