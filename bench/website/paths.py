"""Where the pages are: a hash decides on a file's name, the words in it only help people."""

from __future__ import annotations

import re

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.results.cell import canonical_json, sha256


def table_path(table: Table) -> str:
    """Return the file of a task and model's page."""
    return f"tables/{_file_name(table.id, table.task, table.edition, table.model)}"


def board_path(task: str, edition: str) -> str:
    """Return the file of the full table of a task's edition."""
    return f"boards/{_file_name(sha256(canonical_json([task, edition]).encode()), task, edition)}"


def answer_id(table: Table, bits: BitSpec) -> str:
    """Return the anchor of a bit width of a model on the page of answers."""
    return f"a-{table.id[:10]}-{re.sub(r'[^a-z0-9]+', '-', str(bits).lower())}"


def run_path(row: Row) -> str:
    """Return the file of a row's page."""
    return f"runs/{_file_name(row.id, row.cell.model, row.cell.method, row.cell.bits)}"


def method_path(name: str) -> str:
    """Return the file of a method's page."""
    return f"methods/{_file_name(sha256(name.encode()), name)}"


def compare_path(name: str) -> str:
    """Return the file of the page that sets a method beside all others."""
    return f"compare/{_file_name(sha256(name.encode()), name)}"


def parity_path(name: str) -> str:
    """Return the file of the page that compares a method with official code."""
    return f"parity/{_file_name(sha256(name.encode()), name)}"


def claims_path(task: str, model: str) -> str:
    """Return the file of the page with the published numbers of a model, as their sources call it."""
    return f"claims/{_file_name(sha256(f'{task}/{model}'.encode()), task, model)}"


def _file_name(identity: str, *words: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")[:60].rstrip("-")
    return f"{identity[:12]}{'-' if slug else ''}{slug}.html"
