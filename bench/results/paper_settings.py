"""The published track: how each paper ran its methods, one readable file per paper."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput, UnknownName

FOLDER = Path(__file__).resolve().parents[1] / "suites" / "settings"
PUBLISHED = "published"
"""The track of cells that run with a paper's own settings."""


class Settings(BaseModel):
    """How one paper ran some methods on some tasks."""

    model_config = ConfigDict(extra="forbid")

    methods: Annotated[list[str], Field(min_length=1)]
    tasks: Annotated[list[str], Field(min_length=1)]
    bits: list[str] = []
    """The bit specs that these settings are for; empty for all that no earlier block of the file names."""
    calibration_size: int = 32
    parameters: dict[str, JsonValue] = {}


class Paper(BaseModel):
    """A paper's settings, where they are from, and what of them is not repeated here or not known."""

    model_config = ConfigDict(extra="forbid")

    title: str
    source: str
    differences: list[str] = []
    """What the paper did that the cells do not: operands, transforms, the released code's faults."""
    unknown: list[str] = []
    """What neither paper nor code says, and the cells had to choose."""
    settings: Annotated[list[Settings], Field(min_length=1)]


def papers() -> list[str]:
    """Return the papers whose settings are known, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def load(paper: str) -> Paper:
    """Return one paper's file."""
    if paper not in papers():
        raise UnknownName("paper", paper, papers())
    return Paper.model_validate(tomllib.loads((FOLDER / f"{paper}.toml").read_text(encoding="utf-8")))


def settings(paper: str, task: str, method: str, bits: str) -> Settings:
    """Return how `paper` ran `method` on `task` at `bits`: the first block of its file that covers them."""
    block = find(paper, task, method, bits)
    if block is None:
        raise BadInput(
            f"the settings of {paper} say nothing about {method} on {task} at {bits}: leave these cells out, or add a "
            f"block to {FOLDER / paper}.toml"
        )
    return block


def find(paper: str, task: str, method: str, bits: str) -> Settings | None:
    """Return the first block of a paper's file that covers `method` on `task` at `bits`, None where none does."""
    spec = str(BitSpec.parse(bits))
    blocks = load(paper).settings
    return next((b for b in blocks if method in b.methods and task in b.tasks and spec in (b.bits or [spec])), None)
