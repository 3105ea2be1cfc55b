"""Say what is on this machine, what is missing, and what to do about it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from vitptq.bench import registry
from vitptq.bench.errors import VitptqError
from vitptq.bench.run import provenance
from vitptq.bench.run.costs import MIB


def report(results: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield (what, finding, fine) for versions, devices, disk, and each task's data and checkpoints."""
    for name, found in provenance.versions().items():
        yield f"version of {name}", found, True
    yield from _compiled_operators()
    yield "CPU", f"{provenance.device_name(torch.device('cpu'))}, {psutil.cpu_count()} cores", True
    yield "memory", f"{psutil.virtual_memory().total / 1024 / MIB:.1f} GiB", True
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        yield f"cuda:{index}", provenance.device_name(torch.device("cuda", index)), True
    if not torch.cuda.is_available():
        yield "GPU", "none; the mini edition needs none, the full editions take days without one", True
    place = next(folder for folder in (results, *results.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1024 / MIB
    yield "free disk for results", f"{free:.1f} GiB at {place}", free > 1
    for (task, edition), found_task in sorted(registry.tasks().items()):
        for model in found_task.models():
            try:
                problems = found_task.problems(model)
            except VitptqError as error:
                problems = [str(error)]
            finding = " ".join(problems) or f"ready; {found_task.location(model)}"
            yield f"{task}/{edition} {model}", finding, not problems


def _compiled_operators() -> Iterator[tuple[str, str, bool]]:
    """Try mmcv's compiled operators: a build without torch installs silently and fails only when they are used."""
    try:
        from mmcv.ops import nms  # noqa: F401
    except ImportError as error:
        yield "mmcv operators", f"not usable ({error}); run: python -m vitptq.tasks.openmmlab.install_mmcv", False
    else:
        yield "mmcv operators", "compiled and importable", True
