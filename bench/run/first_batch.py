"""The first batch of an evaluation, looked at while it runs: as large as what is scored, called as the task calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from weakref import ref

import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.task import Progress
from vitptq.bench.results.record import OperandAudit
from vitptq.bench.run import on_grid
from vitptq.bench.run.products import Interception, hooked

SAMPLE = 2**10
"""How many values of what a quantizer puts out are looked up."""


class FirstBatch(Interception):
    """Compares every product with what the audit of one image saw there; keeps no tensor, as a batch may be large.

    `grids` are those before anything ran; `inspected` tells whether a tensor was looked at before, as weights were.
    """

    def __init__(
        self,
        operands: tuple[OperandAudit, ...],
        grids: Mapping[str, Tensor | None],
        inspected: Callable[[Tensor], bool],
        *,
        dynamic: bool,
    ) -> None:
        super().__init__()
        self.violations: dict[str, None] = {}
        self._known: dict[tuple[str, str, int], list[OperandAudit]] = defaultdict(list)
        for position, side in enumerate(operands):
            self._known[side.module, side.op, position % 2].append(side)
        self._grids, self._inspected, self._dynamic = grids, inspected, dynamic
        self._outputs: dict[int, _Seen] = {}

    def put_out(self, name: str, quantizer: Quantizer, output: Tensor) -> None:
        """Look at a sample of what a quantizer returned."""
        off_grid = False
        if not self._inspected(output):
            with torch._C.DisableTorchFunction():
                grid = None if self._dynamic else self._grids.get(name)
                grid = quantizer.grid() if grid is None else grid
                off_grid = on_grid.levels(output, quantizer, grid, dynamic=self._dynamic, sample=SAMPLE).off_grid
        storage = output.untyped_storage()
        self._outputs[storage.data_ptr()] = _Seen(ref(storage), output._version, off_grid)

    def add(self, op: str, macs: int, *sides: tuple[Tensor | None, str]) -> None:
        """Compare both sides of a product, if the model computes it: what the task does beside it is its own."""
        if len(self.scope) == 1:
            return
        module = self.scope[-1]
        for position, (x, role) in enumerate(sides):
            known = self._known.get((module, op, position), [])
            where = f"{module or 'the model'}: {known[0].role if known else role} of {op}"
            if not known:
                self._note(f"{where} was not there for one image")
            elif all(side.bits is not None for side in known):
                seen = None if x is None else self._seen(x)
                if seen is None:
                    self._note(f"{where} stayed float")
                elif seen.off_grid:
                    self._note(f"{where} has values off the grid of its quantizer")

    def _seen(self, x: Tensor) -> _Seen | None:
        """Return what is known of what a quantizer put out, if that is what `x` still holds."""
        seen = self._outputs.get(x.untyped_storage().data_ptr())
        return seen if seen is not None and seen.storage() is not None and seen.version == x._version else None

    def _note(self, violation: str) -> None:
        self.violations[f"{violation} (in the evaluation)"] = None


@dataclass(frozen=True)
class _Seen:
    """What a quantizer put out. Where its storage is gone, another tensor may lie at the same address."""

    storage: ref[torch.UntypedStorage]
    version: int
    off_grid: bool


@contextmanager
def watched(model: nn.Module, first: FirstBatch, progress: Progress) -> Iterator[Progress]:
    """Watch the model until the progress that is yielded is called, which a task does after each batch."""
    with ExitStack() as stack:
        stack.enter_context(hooked(model, first))
        stack.enter_context(first)

        def after_a_batch(done: int, total: int) -> None:
            mode: object = _get_current_function_mode()
            if mode is first:  # else the task is inside a mode of its own
                stack.close()
            progress(done, total)

        yield after_a_batch
