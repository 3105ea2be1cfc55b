"""Read a record's file, whatever lies there: a record, or one sentence that says why it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from vitptq.bench.errors import BadInput, brief
from vitptq.bench.files import regular_bytes, shown
from vitptq.bench.results.record import SCHEMA_VERSION, Record

LARGEST_RECORD = 64 * 2**20
"""Bytes. The largest real ones, of detectors with a table of units, have a few hundred thousand."""
LARGEST_NUMBER = 2**63
_MENDED = "restore it from a copy, or move it away and run its suite again"


class NewerRecord(BadInput):
    """A record of a later schema: right as it is, but not for this version to read."""


def read_record(path: Path) -> Record:
    """Return the record in `path`; BadInput names the file and what is wrong with it."""
    record = parse_record(regular_bytes(path, f"record {shown(path)}", LARGEST_RECORD), f"record {shown(path)}")
    if record.id != path.stem:
        raise BadInput(
            f"record {shown(path)} holds cell {record.id[:12]}...; a record's file is named after its cell: rename it"
        )
    return record


def parse_record(data: bytes, what: str) -> Record:
    """Return the record that `data` holds; `what` names it in the error."""
    try:
        content = from_json(data, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON ({brief(error)}); {_MENDED}") from None
    if not isinstance(content, dict):
        raise BadInput(f"{what} is not a record but JSON of another kind; {_MENDED}")
    version = content.get("schema_version", 1)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerRecord(
            f"{what} was written by a newer vitptq (schema {brief(version)}, this one reads up to {SCHEMA_VERSION}); "
            "it is left as it is: update vitptq to read it"
        )
    try:
        record = Record.model_validate(content)
        _refuse_huge([record.details.model_dump(), record.cell.parameters, record.cell.run_time])
    except ValidationError as error:
        raise BadInput(f"{what} does not fit the schema ({_first(error)}); {_MENDED}") from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"{what} cannot be read ({brief(error)}); {_MENDED}") from None
    return record


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{brief('.'.join(map(str, first['loc'])) or 'the whole file')}: {brief(first['msg'], 240)}"


def _refuse_huge(waiting: list[Any]) -> None:
    """Refuse numbers in free-form fields on which later arithmetic or formatting would fail."""
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, float) and abs(value) > LARGEST_NUMBER:
            raise ValueError(f"the number {value} is out of range")
        elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise ValueError(f"an integer of {value.bit_length()} bits is out of range")
