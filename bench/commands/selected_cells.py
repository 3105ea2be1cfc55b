"""The cells that a command line asks for."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import, so commands import what they need
    from vitptq.bench.results.cell import Cell, Precision


def cells_of(
    suite: str,
    only: list[str] | None,
    methods: list[str] | None,
    adapters: list[Path] | None,
    precision: Precision = "fp32",
) -> list[Cell]:
    """Return the suite's cells in this precision, for these methods if any are named, that match `only`."""
    from vitptq.bench import catalogue
    from vitptq.bench.results import suites

    load_adapters(adapters)
    cells = [cell.model_copy(update={"precision": precision}) for cell in catalogue.cells(suite, methods or [])]
    return suites.select(cells, only or [])  # an id is that of the cell in its precision


def command_line(*words: str, methods: list[str] | None, adapters: list[Path] | None) -> str:
    """Return the command line that a record gives for repeating its cell, up to the cell's own filters."""
    options = [*(f"--method={name}" for name in methods or []), *(f"--adapter={path}" for path in adapters or [])]
    return shlex.join(["vitptq", *words, *options])


def load_adapters(adapters: list[Path] | None) -> None:
    """Register the methods and tasks of these Python files."""
    from vitptq.bench import registry

    for adapter in adapters or []:
        registry.add_file(adapter)
