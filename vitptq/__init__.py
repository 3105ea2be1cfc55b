"""What an adapter needs: `from vitptq import BitSpec, Calibration, Method, prepare`.

The contracts, and of `methods/core` what prepares a model, watches it, finds ranges, puts values on grids and trains
blocks. Everything else in this package may move. A name is loaded when it is first used, because torch takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitptq.bench.bits import BitSpec, Role
    from vitptq.bench.contracts.method import Calibration, DataFree, InputSpec, Method, run_time
    from vitptq.bench.contracts.quantizer import Quantizer
    from vitptq.bench.contracts.reporting import keep_images, note, note_details, note_table, report, work_folder
    from vitptq.bench.contracts.task import Drawing, Evidence, Metric, ModelCard, Resampler, Scene, Task
    from vitptq.bench.errors import BadInput, Missing, Unsupported
    from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
    from vitptq.methods.core.model.operands import Conv2d, ConvTranspose2d, Linear, MatMul, Operand, watching
    from vitptq.methods.core.model.prepare import PreparedModel, prepare
    from vitptq.methods.core.quantizers.log import Log2, LogSqrt2
    from vitptq.methods.core.quantizers.lookup_table import LookupTable
    from vitptq.methods.core.quantizers.uniform import Granularity, Uniform
    from vitptq.methods.core.ranges.estimation import Range, least_error, min_max, percentile, uniform
    from vitptq.methods.core.ranges.observers import Observer, RunningMinMax, observe_activations, observe_weights
    from vitptq.methods.core.ranges.percentile_error import least_error_affine
    from vitptq.methods.core.ranges.shrunk import least_error_range
    from vitptq.methods.core.reconstruct.engine import Result, reconstruct
    from vitptq.methods.core.reconstruct.least_error_start import calibrated
    from vitptq.methods.core.reconstruct.losses import (
        Loss,
        LossFor,
        PerSample,
        RenewedLoss,
        StepTensors,
        divergence,
        power_error,
        squared_error,
        weighted_error,
    )
    from vitptq.methods.core.reconstruct.method_settings import RoundingMethod, WeightTrainingMethod
    from vitptq.methods.core.reconstruct.plan import all_units, block_units, layer_units
    from vitptq.methods.core.reconstruct.settings import Settings
    from vitptq.methods.core.reconstruct.unit import Unit

SOURCES = {
    "BadInput": "bench.errors",
    "BitSpec": "bench.bits",
    "Calibration": "bench.contracts.method",
    "Conv2d": "methods.core.model.operands",
    "ConvTranspose2d": "methods.core.model.operands",
    "DataFree": "bench.contracts.method",
    "Drawing": "bench.contracts.task",
    "Evidence": "bench.contracts.task",
    "Granularity": "methods.core.quantizers.uniform",
    "InputSpec": "bench.contracts.method",
    "Linear": "methods.core.model.operands",
    "Log2": "methods.core.quantizers.log",
    "LogSqrt2": "methods.core.quantizers.log",
    "LookupTable": "methods.core.quantizers.lookup_table",
    "Loss": "methods.core.reconstruct.losses",
    "LossFor": "methods.core.reconstruct.losses",
    "MatMul": "methods.core.model.operands",
    "Method": "bench.contracts.method",
    "Metric": "bench.contracts.task",
    "Missing": "bench.errors",
    "ModelCard": "bench.contracts.task",
    "Observer": "methods.core.ranges.observers",
    "Operand": "methods.core.model.operands",
    "PerSample": "methods.core.reconstruct.losses",
    "PreparedModel": "methods.core.model.prepare",
    "Quantizer": "bench.contracts.quantizer",
    "Range": "methods.core.ranges.estimation",
    "RenewedLoss": "methods.core.reconstruct.losses",
    "Resampler": "bench.contracts.task",
    "Result": "methods.core.reconstruct.engine",
    "Role": "bench.bits",
    "RoundingMethod": "methods.core.reconstruct.method_settings",
    "RunningMinMax": "methods.core.ranges.observers",
    "Scene": "bench.contracts.task",
    "Settings": "methods.core.reconstruct.settings",
    "StepTensors": "methods.core.reconstruct.losses",
    "Task": "bench.contracts.task",
    "Uniform": "methods.core.quantizers.uniform",
    "Unit": "methods.core.reconstruct.unit",
    "Unsupported": "bench.errors",
    "WeightTrainingMethod": "methods.core.reconstruct.method_settings",
    "all_units": "methods.core.reconstruct.plan",
    "block_units": "methods.core.reconstruct.plan",
    "calibrated": "methods.core.reconstruct.least_error_start",
    "divergence": "methods.core.reconstruct.losses",
    "fold_into_layer_norm": "methods.core.model.layer_norm",
    "keep_images": "bench.contracts.reporting",
    "layer_units": "methods.core.reconstruct.plan",
    "least_error": "methods.core.ranges.estimation",
    "least_error_affine": "methods.core.ranges.percentile_error",
    "least_error_range": "methods.core.ranges.shrunk",
    "min_max": "methods.core.ranges.estimation",
    "note": "bench.contracts.reporting",
    "note_details": "bench.contracts.reporting",
    "note_table": "bench.contracts.reporting",
    "observe_activations": "methods.core.ranges.observers",
    "observe_weights": "methods.core.ranges.observers",
    "percentile": "methods.core.ranges.estimation",
    "power_error": "methods.core.reconstruct.losses",
    "prepare": "methods.core.model.prepare",
    "reconstruct": "methods.core.reconstruct.engine",
    "report": "bench.contracts.reporting",
    "run_time": "bench.contracts.method",
    "squared_error": "methods.core.reconstruct.losses",
    "uniform": "methods.core.ranges.estimation",
    "watching": "methods.core.model.operands",
    "weighted_error": "methods.core.reconstruct.losses",
    "work_folder": "bench.contracts.reporting",
}
"""The module below this package that defines each public name: what a method's source hash covers, too."""

__all__ = [
    "BadInput",
    "BitSpec",
    "Calibration",
    "Conv2d",
    "ConvTranspose2d",
    "DataFree",
    "Drawing",
    "Evidence",
    "Granularity",
    "InputSpec",
    "Linear",
    "Log2",
    "LogSqrt2",
    "LookupTable",
    "Loss",
    "LossFor",
    "MatMul",
    "Method",
    "Metric",
    "Missing",
    "ModelCard",
    "Observer",
    "Operand",
    "PerSample",
    "PreparedModel",
    "Quantizer",
    "Range",
    "RenewedLoss",
    "Resampler",
    "Result",
    "Role",
    "RoundingMethod",
    "RunningMinMax",
    "Scene",
    "Settings",
    "StepTensors",
    "Task",
    "Uniform",
    "Unit",
    "Unsupported",
    "WeightTrainingMethod",
    "all_units",
    "block_units",
    "calibrated",
    "divergence",
    "fold_into_layer_norm",
    "keep_images",
    "layer_units",
    "least_error",
    "least_error_affine",
    "least_error_range",
    "min_max",
    "note",
    "note_details",
    "note_table",
    "observe_activations",
    "observe_weights",
    "percentile",
    "power_error",
    "prepare",
    "reconstruct",
    "report",
    "run_time",
    "squared_error",
    "uniform",
    "watching",
    "weighted_error",
    "work_folder",
]


def __getattr__(name: str) -> Any:
    """Load a public name from where it is defined."""
    if name not in SOURCES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{SOURCES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
