"""How torch computes: repeatably where it can, and with which precision of products; and what was really so."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from vitptq.bench.results.cell import Precision

HALVES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
NOT_REPEATABLE = re.compile(r"^(\S+) does not have a deterministic implementation")
"""How torch says it, where it is asked for repeatable operations and to go on without."""


def make_repeatable() -> None:
    """Ask torch for repeatable operations, and for products of float32 numbers that keep their 24 bits.

    An operation that has no repeatable form runs all the same: some methods need one (a float cumsum on CUDA). The
    record then names it, and does not say "deterministic".
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    _set_tf32(False)


def settings() -> dict[str, JsonValue]:
    """Return what decides how torch computes, as it is now."""
    return {
        "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_cudnn": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
    }


@contextmanager
def unrepeatable_operations() -> Iterator[dict[str, None]]:
    """Collect the names of the operations that run inside without a repeatable form, though one was asked for."""
    found: dict[str, None] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=f".*{NOT_REPEATABLE.pattern[6:]}")
        shown = warnings.showwarning

        def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
            operation = NOT_REPEATABLE.match(str(message))
            if operation:
                found[operation[1]] = None
            else:
                shown(message, *args, **kwargs)

        warnings.showwarning = show
        yield found


@contextmanager
def evaluated_in(precision: Precision, model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let a model compute with this precision inside.

    "fp32" and "tf32" say how float32 products are computed on a GPU. With "bf16" and "fp16" torch's autocast casts the
    operands of products to 16 bits: those of the model, or of its backbone where it has one, which is what is quantised
    of a detector or segmenter. Its outputs are float32 again.
    """
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _set_tf32(precision == "tf32")
    try:
        with _in_halves(model, device, HALVES[precision]) if precision in HALVES else nullcontext():
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def _in_halves(model: nn.Module, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    part: Any = getattr(model, "backbone", model)
    inner = part.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, dtype=dtype):
            outputs = inner(*args, **kwargs)
        return tree_map(lambda x: x.float() if isinstance(x, Tensor) and x.dtype == dtype else x, outputs)

    vars(part)["forward"] = forward
    try:
        yield
    finally:
        del vars(part)["forward"]


def _set_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
