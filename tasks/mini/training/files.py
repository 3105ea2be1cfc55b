"""What a training writes: checkpoints, facts, logs; no file is ever seen half written."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def checkpoint_file(name: str, work: Path) -> Path:
    """Return where a training keeps what it can go on from."""
    return work / f"{name}.checkpoint.pt"


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that a kill leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, its tensors on the CPU."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def refuse_other_recipe(path: Path, saved: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Raise ValueError where a checkpoint belongs to another recipe."""
    if saved != recipe:
        raise ValueError(f"{path} belongs to the recipe {saved}, not {recipe}; use another --work folder")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half written."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts as JSON with one line per key, or per entry of a mapping of lists."""
    lines = ",\n".join(f"  {json.dumps(key)}: {_readable(value)}" for key, value in facts.items())
    replace_file(path, f"{{\n{lines}\n}}\n".encode())


def _readable(value: Any) -> str:
    if isinstance(value, Mapping) and value and all(isinstance(entry, list) for entry in value.values()):
        entries = ",\n".join(f"    {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items())
        return f"{{\n{entries}\n  }}"
    return json.dumps(value)


def write_log(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Write the log as CSV: a whole number, then four decimals each."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(history[0])
        for first, *rest in (row.values() for row in history):
            writer.writerow([int(first), *(f"{value:.4f}" for value in rest)])
