"""Records of earlier schema versions, read as what they would be today; the files stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def upgraded(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a record's file in today's schema; what is of no known version stays as it is."""
    if raw.get("schema_version") == 1 and isinstance(raw.get("details", {}), Mapping):
        raw = raw | {"schema_version": 2, "details": _sorted_details(raw.get("details", {}))}
    if raw.get("schema_version") == 2:
        # Version 2 had a list of operands where version 3 has columns; the schema reads both.
        raw = raw | {"schema_version": 3}
    return raw


def _sorted_details(details: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the details of version 1, where task, repetition and method wrote into one mapping, by who said them."""
    task = dict(details)
    repetition = {
        new: task.pop(old)
        for old, new in (("repeat", "command"), ("calibration_images", "calibration_images"))
        if isinstance(task.get(old), str)
    }
    method: dict[str, Any] = {"figures": {}, "tables": {}}
    if isinstance(task.get("method"), Mapping):
        for name, value in task.pop("method").items():
            table, figures = _parted(value)
            method["tables"] |= {name: table} if table else {}
            method["figures"] |= {name: figures} if figures or not table else {}
    if _are_references(task.get("images")):
        method["images"] = task.pop("images")
    return {"task": task, "repetition": repetition, "method": method}


def _parted(value: Any) -> tuple[dict[str, Any] | None, Any]:
    """Return the table in what a method told, which version 1 knew by its shape, and what else there was."""
    if _are_rows(value):
        return {"rows": value}, None
    if isinstance(value, Mapping) and _are_rows(value.get("rows")):
        rest = {name: inner for name, inner in value.items() if name not in ("rows", "text")}
        return {"text": str(value.get("text", "")), "rows": value["rows"]}, rest
    return None, value


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _are_references(value: Any) -> bool:
    """Tell whether these are the files of a method's images; a task may have used the word for something else."""
    fields = {"file", "sha256", "bytes"}
    return isinstance(value, Mapping) and all(isinstance(ref, Mapping) and set(ref) == fields for ref in value.values())
