"""Per-tensor grids that are a table of values: a code for each value of the tensor, a value for each code."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.autograd import applied


class LookupTable(Quantizer):
    """A monotone curve takes values to codes and back; the gradient goes straight through the rounding alone.

    So dx^/dx is the slope of the decoder at the code times that of the encoder at x, and 0 where x was clipped.
    """

    table: Tensor

    def __init__(self, bits: int, values: Tensor) -> None:
        """Keep what each code decodes to: (codes,), ascending or descending."""
        super().__init__(bits)
        # a table, because a transcendental function may differ in the last bit between vector and scalar lanes
        self.register_buffer("table", values.detach().float())

    @abstractmethod
    def place(self, x: Tensor) -> Tensor:
        """Return where `x` lies among the codes, before rounding and clipping (same shape)."""

    @abstractmethod
    def slope(self, x: Tensor, out: Tensor) -> Tensor:
        """Return decoder' at the code of `out` times encoder' at `x`, as if nothing was clipped."""

    @property
    def granularity(self) -> str:
        """Name what shares one grid: the tensor."""
        return "tensor"

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of `x` (same shape, int32)."""
        return self._rounded(x)[1].nan_to_num_(0).to(torch.int32)

    def _rounded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rounded places of `x`, and the codes: the same, clipped."""
        places = self.place(x).round_()
        return places, places.clamp(0, len(self.table) - 1)

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid."""
        if x.dtype in (torch.bfloat16, torch.float16):
            x = x.float()

        return applied(_Decode, x, self)

    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (1, levels)."""
        values: Tensor = self.table.unique()
        return values[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (1, values)."""
        return x.reshape(1, -1)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: LookupTable) -> Tensor:
        places, codes = grid._rounded(x)
        inside = places == codes if ctx.needs_input_grad[0] else None
        out = looked_up(grid.table, codes).to(x.dtype)
        if inside is not None:
            ctx.save_for_backward(grid.slope(x, out) * inside)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None


def looked_up(table: Tensor, places: Tensor) -> Tensor:
    """Return `table` (codes,) at rounded places (any shape, floats, overwritten), clipped to its codes.

    NaN stays NaN: a diverged model must not look healthy. It gets an entry of its own, because looking for it in the
    tensor is a pass that costs as much as all others together.
    """
    codes = places.clamp_(0, len(table) - 1).nan_to_num_(len(table)).to(torch.int32)
    table = torch.cat([table, table.new_full((1,), torch.nan)])
    return table.index_select(0, codes.reshape(-1)).reshape(places.shape)
