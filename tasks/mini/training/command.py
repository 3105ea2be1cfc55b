"""What the two training commands share: the device, the worker processes, and the way from a recipe to weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from vitptq.tasks.mini.training.files import checkpoint_file, read_checkpoint
from vitptq.tasks.mini.training.loop import Recipe, Training

_MOST_WORKERS = 4
R = TypeVar("R", bound=Recipe)


def choose_device(name: str, threads: int = 0) -> torch.device:
    """Return the device of a name, `auto` being CUDA where there is one; `threads` of the CPU, 0 for torch's choice."""
    if threads:
        torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_workers(wanted: int, device: torch.device) -> int:
    """Return the number of processes that make images: as wanted; for -1, none beside a CPU and a few beside a GPU."""
    if wanted >= 0:
        return wanted
    return 0 if device.type == "cpu" else min(_MOST_WORKERS, os.cpu_count() or 1)


def train_and_publish(
    start: Callable[[R], Training[R, Any]],
    recipe: R,
    name: str,
    *,
    work: Path,
    out: Path,
    minutes: float,
    workers: int,
    export: bool,
) -> dict[str, float] | None:
    """Train until the recipe is done and publish; return the scores, or None where the time was over before.

    With `export`, the last checkpoint is published, finished or not, under its own recipe.
    """
    if export:
        recipe = type(recipe)(**read_checkpoint(checkpoint_file(name, work))["recipe"])
    training = start(recipe)
    if export:
        state = training.restored(work)
    else:
        state = training.run(work, minutes=minutes, workers=choose_workers(workers, training.device))
    done, unit = training.done(state), training.unit
    if done < training.length and not export:
        print(f"{name}: stopped after {unit} {done} of {training.length}; the same command continues", flush=True)
        return None
    scores = training.publish(state, out)
    print(f"{name}: {readable(scores)} on the evaluation images after {done} {unit}s, weights in {out}", flush=True)
    return scores


def readable(scores: dict[str, float]) -> str:
    """Return scores as a text."""
    return ", ".join(f"{key} {value:.2f} %" for key, value in scores.items())
