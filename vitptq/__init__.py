"""What an adapter written by others needs: `from vitptq import BitSpec, Calibration, Method, prepare`.

Everything else in this package may move. A name is loaded when it is first used, because torch takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitptq.bench.bits import BitSpec
    from vitptq.bench.contracts.method import Calibration, DataFree, InputSpec, Method, run_time
    from vitptq.bench.contracts.quantizer import Quantizer
    from vitptq.bench.contracts.reporting import keep_images, note, note_details, note_table, report, work_folder
    from vitptq.bench.contracts.task import Drawing, Evidence, Metric, ModelCard, Scene, Task
    from vitptq.bench.errors import BadInput, Missing, Unsupported

SOURCES = {
    "BadInput": "bench.errors",
    "BitSpec": "bench.bits",
    "Calibration": "bench.contracts.method",
    "DataFree": "bench.contracts.method",
    "Drawing": "bench.contracts.task",
    "Evidence": "bench.contracts.task",
    "InputSpec": "bench.contracts.method",
    "Method": "bench.contracts.method",
    "Metric": "bench.contracts.task",
    "Missing": "bench.errors",
    "ModelCard": "bench.contracts.task",
    "Quantizer": "bench.contracts.quantizer",
    "Scene": "bench.contracts.task",
    "Task": "bench.contracts.task",
    "Unsupported": "bench.errors",
    "keep_images": "bench.contracts.reporting",
    "note": "bench.contracts.reporting",
    "note_details": "bench.contracts.reporting",
    "note_table": "bench.contracts.reporting",
    "report": "bench.contracts.reporting",
    "run_time": "bench.contracts.method",
    "work_folder": "bench.contracts.reporting",
}
"""The module below this package that defines each public name: what a method's source hash covers, too."""

__all__ = [
    "BadInput",
    "BitSpec",
    "Calibration",
    "DataFree",
    "Drawing",
    "Evidence",
    "InputSpec",
    "Method",
    "Metric",
    "Missing",
    "ModelCard",
    "Quantizer",
    "Scene",
    "Task",
    "Unsupported",
    "keep_images",
    "note",
    "note_details",
    "note_table",
    "report",
    "run_time",
    "work_folder",
]


def __getattr__(name: str) -> Any:
    """Load a public name from where it is defined."""
    if name not in SOURCES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{SOURCES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
