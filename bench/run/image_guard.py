"""No image within reach: what holds while a data-free method works.

Closed inside `closed_images`: every file below the folders that the tasks name (their data, and what it is generated
from), the image readers that open files without telling Python, new processes, and the registry of tasks. Images that
the process keeps in memory are dropped before. An attempt fails the cell, also where the method swallowed the error.

This stops accidents and plain cheating, not an attacker: code in the same process can undo whatever Python did, read a
copy of the images that lies elsewhere, open files through ctypes, or bring pictures along in its own package. Reviewing
an adapter stays necessary.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from vitptq.bench.contracts.task import Task
from vitptq.bench.errors import BadInput

FILE_EVENTS = frozenset({"open", "os.listdir", "os.scandir", "os.link", "os.symlink", "os.rename"})
PROCESS_EVENTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"})
NATIVE_READERS = {
    "cv2": ("imread", "imreadmulti", "VideoCapture"),
    "torchvision.io": ("read_file", "read_image"),
    "torchvision.io.image": ("read_file",),
}
"""Functions that read files in C++, where no audit event tells of it, by module."""


class ReadsImages(BadInput):
    """A data-free method tried to reach an image."""


class _Guard:
    """The state that the audit hook looks at. A hook cannot be removed, so there is one, and it is mostly idle."""

    def __init__(self) -> None:
        self.installed = False
        self.roots: tuple[str, ...] = ()
        self.active = False
        self.attempts: list[str] = []

    def refuse(self, attempt: str) -> NoReturn:
        self.attempts.append(attempt)
        raise ReadsImages(_sentence(attempt))

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in FILE_EVENTS:
            for argument in arguments[:2] if event != "open" else arguments[:1]:
                self._check(argument)
        elif event in PROCESS_EVENTS:
            self.refuse(f"started a process ({event})")
        elif event == "import" and arguments[0] in NATIVE_READERS:
            self.refuse(f"imported {arguments[0]}")
        elif event == "vitptq.tasks":  # raised by the registry
            self.refuse("asked the registry for tasks")

    def _check(self, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        if any(real == root or real.startswith(root + os.sep) for root in self.roots):
            self.refuse(f"opened {real}")


_guard = _Guard()


def active() -> bool:
    """Tell whether images are out of reach now."""
    return _guard.active


@contextmanager
def closed_images(tasks: Iterable[Task]) -> Iterator[None]:
    """Let nothing read an image of `tasks` inside; raise ReadsImages at the end where it was tried."""
    folders: set[Path] = set()
    for task in tasks:
        task.drop_images()
        folders.update(folder.resolve() for folder in task.image_folders())
    if not _guard.installed:
        sys.addaudithook(_guard.hook)
        _guard.installed = True
    _guard.roots, _guard.attempts = tuple(sorted(map(str, folders))), []
    with ExitStack() as stack:
        for module, name in _loaded_readers():
            stack.enter_context(patch.object(module, name, _refusing(f"{module.__name__}.{name}")))
        _guard.active = True
        try:
            yield
        finally:
            _guard.active = False
    if _guard.attempts:
        raise ReadsImages(_sentence(_guard.attempts[0]))


def _loaded_readers() -> Iterator[tuple[Any, str]]:
    for name, functions in NATIVE_READERS.items():
        module = sys.modules.get(name)
        yield from ((module, function) for function in functions if hasattr(module, function))


def _refusing(name: str) -> Callable[..., NoReturn]:
    def refused(*_: object, **__: object) -> NoReturn:
        _guard.refuse(f"called {name}")

    return refused


def _sentence(attempt: str) -> str:
    return f"a data-free method may not read any image: it {attempt}; drop that, or let the adapter's category be ptq"
