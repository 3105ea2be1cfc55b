"""The text formats of the board, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from vitptq.bench.board.board import Board
from vitptq.bench.board.exports.data_files import as_csv, as_json
from vitptq.bench.board.exports.latex import as_latex
from vitptq.bench.board.exports.markdown import as_markdown
from vitptq.bench.board.exports.terminal import as_table
from vitptq.bench.errors import UnknownName

Format = Literal["table", "csv", "latex", "json", "markdown"]
FORMATS: dict[Format, Callable[[Board], str]] = {
    "table": as_table,
    "csv": as_csv,
    "latex": as_latex,
    "json": as_json,
    "markdown": as_markdown,
}


def render(board: Board, format: Format) -> str:
    """Return the board in one of the text formats, ending in a newline."""
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    return FORMATS[format](board)
