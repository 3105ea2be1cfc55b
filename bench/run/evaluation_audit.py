"""Whether what was audited is what was evaluated: one audit before, one after it, and nothing changed in between.

The first runs on one image, the second on several real ones, and the evaluation's first batch is watched. Ranges that
are set by what the model is given, another width for larger batches, a quantizer that gives way after some calls, or
noise makes these differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.task import Progress
from vitptq.bench.results.record import Audit, OperandAudit
from vitptq.bench.run import products
from vitptq.bench.run.audit import Forward, Inspector, parameter_counts
from vitptq.bench.run.first_batch import SAMPLE, FirstBatch, watched

IMAGES = 4
"""How many images the second audit takes: more than one, and few beside an evaluation."""
SEVERAL = "(on several images)"
LISTED = 200
"""So many extra tensors are listed by name."""


class EvaluationAudit:
    """The audits around one evaluation of a quantised model.

    `float_audit` and `float_tensors` (names of parameters and buffers) are those of the float model.
    """

    def __init__(
        self,
        model: nn.Module,
        bits: BitSpec,
        forward: Forward,
        *,
        float_audit: Audit | None = None,
        float_tensors: Collection[str] = (),
        dynamic: bool = False,
    ) -> None:
        """Note the model's grids, parameters and buffers as the method left them."""
        self._model, self._bits, self._forward, self._dynamic = model, bits, forward, dynamic
        self._float_audit, self._float_tensors = float_audit, float_tensors
        self._inspector = Inspector(dynamic=dynamic)
        self._state = state(model)
        self._in_evaluation: tuple[str, ...] = ()

    def before(self, example: Any) -> Audit:
        """Audit the model on `example`, a batch of one image."""
        with products.recorded(self._model, example, dynamic=self._dynamic) as recording:
            self._forward(self._model, example)
        counts = parameter_counts(self._model)
        self._first = self._inspector.report(recording, self._bits, self._float_audit, counts)
        return self._first

    @contextmanager
    def during(self, progress: Progress) -> Iterator[Progress]:
        """Look at the first batch of the evaluation that runs inside, which reports to what is yielded."""
        if self._bits.is_float:
            yield progress
            return
        first = FirstBatch(self._first.operands, self._state.grids, self._inspector.has_seen, dynamic=self._dynamic)
        with watched(self._model, first, progress) as reported:
            yield reported
        self._in_evaluation = tuple(first.violations)

    def after(self, batch: Any) -> Audit:
        """Return the first audit with all that the second, on a batch of several images, found besides."""
        if self._bits.is_float:
            return self._first
        with products.recorded(self._model, batch, dynamic=self._dynamic) as recording:
            output = self._forward(self._model, batch)
        with torch.no_grad():
            again = self._forward(self._model, batch)
        self._inspector.sample = SAMPLE
        second = self._inspector.report(recording, self._bits, None, {})
        found = [*self._first.violations, *changes(self._state, state(self._model), dynamic=self._dynamic)]
        found += self._in_evaluation
        found += [f"{violation} {SEVERAL}" for violation in second.violations if violation not in found]
        found += [f"{where} {SEVERAL}" for where in _other_operands(self._first.operands, second.operands)]
        if not _equal(output, again):
            found.append("two runs on the same images differ: something is drawn, or changes, while the model runs")
        extra = extra_tensors(self._model, self._float_tensors, self._state.grids) if self._float_tensors else ()
        return self._first.model_copy(update={"violations": tuple(dict.fromkeys(found)), "extra_tensors": tuple(extra)})


@dataclass(frozen=True)
class State:
    """What must stay as it is while a model is evaluated."""

    grids: Mapping[str, Tensor | None]
    """By quantizer; None where it has no grid yet."""
    checksums: Mapping[str, int]
    """Of parameters and buffers, by name."""


def state(model: nn.Module) -> State:
    """Return the grids, and checksums of the parameters and buffers."""
    quantizers = ((name, module) for name, module in model.named_modules() if isinstance(module, Quantizer))
    return State(
        {name: _grid(quantizer) for name, quantizer in quantizers},
        {name: _checksum(tensor) for name, tensor in _tensors(model)},
    )


def changes(before: State, after: State, *, dynamic: bool = False) -> Iterator[str]:
    """Name what is not as it was; grids that a dynamic method finds anew are not among it."""
    moved = {name for name in before.grids if not _same_grid(before.grids[name], after.grids.get(name))}
    if not dynamic:
        yield from (f"{name}: its grid changed while the model ran" for name in sorted(moved))
    for name in sorted({*before.checksums, *after.checksums}):
        of_quantizer = name.rpartition(".")[0] in before.grids
        if before.checksums.get(name) != after.checksums.get(name) and not of_quantizer:
            yield f"{name} changed while the model ran"


def extra_tensors(model: nn.Module, known: Collection[str], grids: Mapping[str, Tensor | None]) -> list[str]:
    """List parameters and buffers that are not `known`, but for a quantizer's own: those no larger than its grid."""
    found = []
    for name, tensor in _tensors(model):
        grid = grids.get(name.rpartition(".")[0])
        if name not in known and (grid is None or tensor.numel() > grid.numel()):
            found.append(f"{name} {tuple(tensor.shape)}")
    return found if len(found) <= LISTED else [*found[:LISTED], f"and {len(found) - LISTED} more"]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _grid(quantizer: Quantizer) -> Tensor | None:
    try:
        return quantizer.grid().detach().clone()
    except Exception:  # noqa: BLE001  whatever a quantizer does that has seen nothing yet
        return None


def _same_grid(before: Tensor | None, after: Tensor | None) -> bool:
    return before is not None and after is not None and torch.equal(before, after)


def _checksum(tensor: Tensor) -> int:
    """Return the sum of the bits: cheap, and the same in whatever order it is taken."""
    words = tensor.detach().contiguous().reshape(-1)
    return int(words.view(torch.int32 if tensor.element_size() == 4 else torch.uint8).sum(dtype=torch.int64))


def _other_operands(first: tuple[OperandAudit, ...], second: tuple[OperandAudit, ...]) -> Iterator[str]:
    """Name the operands that only one of two audits met."""
    here, there = ({(side.module, side.op, side.role) for side in sides} for sides in (first, second))
    for only, where in ((here - there, "for one image only"), (there - here, "not for one image")):
        yield from (f"{module or 'the model'}: {role} of {op} is read {where}" for module, op, role in sorted(only))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    if isinstance(one, Mapping):
        return all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, tuple | list):
        return all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return True
