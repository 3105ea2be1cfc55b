"""Evaluate through `torch.compile`, which fuses what quantising adds: passes over tensors, bound by memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from vitptq.bench.contracts.quantizer import with_kept_weights
from vitptq.bench.errors import Missing


def refuse_without_compiler(device: torch.device) -> None:
    """Raise Missing where torch has nothing to compile with: a C++ compiler for the CPU, Triton for a GPU."""
    if device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise Missing("--compile needs a C++ compiler on the CPU, and none is here: install g++, or run without it")


@contextmanager
def compiled(model: nn.Module, *, asked: bool, backend: str | Callable[..., Any] = "inductor") -> Iterator[None]:
    """Compile the model, or its backbone where it has one, after its first batch; inside, and only if `asked`.

    The first batch runs as it is, because the audit watches it. Weights are those that were quantised for it: they are
    constants of what is compiled.
    """
    if not asked:
        yield
        return
    part: Any = getattr(model, "backbone", model)
    plain, before = part.forward, vars(part).get("forward")
    made: list[Any] = []

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not made:
            made.append(torch.compile(plain, backend=backend))
            return plain(*args, **kwargs)
        with with_kept_weights(part):
            return made[0](*args, **kwargs)

    vars(part)["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del vars(part)["forward"]
        else:
            vars(part)["forward"] = before
        torch.compiler.reset()
