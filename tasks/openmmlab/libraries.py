"""OpenMMLab's libraries: what is installed, and how they are used in turn.

They take many seconds to import, so each function imports what it needs when it is called, and importing a module of
this folder costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import StringIO
from typing import Any, Literal

from vitptq.bench.errors import Missing

Scope = Literal["mmdet", "mmseg"]

INSTALL = "install it with: python tasks/openmmlab/install_mmcv.py (after pip install -e '.[openmmlab]')"


def problems() -> list[str]:
    """Say in one sentence what of OpenMMLab is not installed; imports nothing slow."""
    absent = [name for name in ("mmengine", "mmcv", "mmdet", "mmseg") if importlib.util.find_spec(name) is None]
    if absent:
        return [f"{', '.join(absent)} cannot be imported, detection and segmentation need it: {INSTALL}"]
    if importlib.util.find_spec("mmcv._ext") is None:
        return [f"mmcv was built without its compiled operators (no mmcv._ext), detection needs them: {INSTALL}"]
    return []


@cache
def require(scope: Scope) -> None:
    """Import the library and what it builds on, or raise Missing with the next step."""
    for problem in problems():
        raise Missing(problem)
    for name in ("mmcv.ops", f"{scope}.models", f"{scope}.datasets"):
        try:
            with redirect_stdout(StringIO()):  # mmdet prints which optional packages it does without
                importlib.import_module(name)
        except ImportError as error:
            raise Missing(f"{name} cannot be imported ({error}): {INSTALL}") from error


@contextmanager
def library(scope: Scope) -> Iterator[Any]:
    """Yield `<scope>.registry`, names without a prefix meaning this library's; both libraries can be used in turn."""
    require(scope)
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(scope):
        yield importlib.import_module(f"{scope}.registry")
