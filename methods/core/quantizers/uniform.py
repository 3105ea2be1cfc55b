"""Uniform affine quantizers.

Codes are b bits wide. Affine: `x^ = (clamp(round(x/s) + z, low, high) - z) * s`. Rounding is to nearest, ties to even.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.autograd import applied

Granularity = Literal["tensor", "channel", "head", "token"]

SCALE_FLOOR = 1e-8
"""A constant channel would otherwise have scale 0."""

OnGrids = Callable[[Tensor, Tensor], Tensor]
"""(scales, zero points), shaped so that they broadcast against a certain tensor, to that tensor on these grids."""


def on_grid(x: Tensor, scale: Tensor, low: Tensor | int, high: Tensor | int) -> Tensor:
    """Return `x` on uniform grids whose codes, less the zero point, go from `low` to `high`; all broadcast.

    As `Uniform` puts it out, without a gradient.
    """
    codes = (x / scale).round_()  # a quotient: x times 1 / scale falls to the other side of a tie
    if isinstance(low, Tensor) and isinstance(high, Tensor):  # twice as fast as a clamp that broadcasts
        torch.maximum(codes, low, out=codes)
        torch.minimum(codes, high, out=codes)
    else:
        codes.clamp_(int(low), int(high))
    return codes.mul_(scale)


class Uniform(Quantizer):
    """Uniform affine grid, shared per tensor or along one axis.

    `scale`, `zero_point`: shape (groups,); one group where the granularity is the tensor. `axis` is the dimension of
    the input that the groups index. Unsigned codes are 0..2^b-1, signed (symmetric) codes -2^(b-1)..2^(b-1)-1.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        bits: int,
        scale: Tensor,
        zero_point: Tensor,
        *,
        axis: int | None = None,
        granularity: Granularity = "tensor",
        signed: bool = False,
    ) -> None:
        super().__init__(bits)
        self.low = -(2 ** (bits - 1)) if signed else 0
        self.high = self.low + 2**bits - 1
        self.axis = axis
        self._granularity = granularity
        self.register_buffer("scale", scale.detach().float().reshape(-1).clamp_min(SCALE_FLOOR))
        self.register_buffer("zero_point", zero_point.detach().float().reshape(-1))

    @property
    def granularity(self) -> str:
        """Name what shares one scale."""
        return self._granularity

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid; the gradient is 1 inside the range and 0 where the value was clipped."""
        scale, zero = self._like(x, self.scale), self._like(x, self.zero_point)

        return applied(_FakeQuantize, x, scale, self.low - zero, self.high - zero)

    def codes(self, x: Tensor) -> Tensor:
        """Return the codes of `x` (same shape, float; integers wherever the zero point is one)."""
        scale, zero = self._like(x, self.scale), self._like(x, self.zero_point)
        return ((x / scale).round() + zero).clamp(self.low, self.high)

    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (groups, levels)."""
        zero = self.zero_point[:, None]
        inner = torch.arange(self.low, self.high + 1, device=zero.device)[None] - zero
        if not torch.equal(
            zero, zero.round()
        ):  # rounded codes are shifted by the fraction, and the clamp adds both ends
            ends = torch.cat([self.low - zero, self.high - zero], dim=1)
            inner = torch.cat([(inner + zero - zero.round()).clamp(ends[:, :1], ends[:, 1:]), ends], dim=1)
        return inner.sort(dim=1).values * self.scale[:, None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (groups, values)."""
        return x.reshape(1, -1) if self.axis is None else x.movedim(self.axis, 0).flatten(1)

    def _like(self, x: Tensor, values: Tensor) -> Tensor:
        """Shape per-group values so that they broadcast against `x`."""
        if self.axis is None:
            return values.reshape(())
        shape = [1] * x.ndim
        shape[self.axis] = -1
        return values.reshape(shape)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, granularity={self.granularity}, signed={self.low < 0}"


class _FakeQuantize(torch.autograd.Function):
    """Round to the grid with in-place passes; straight-through inside the range.

    With `low` and `high` already shifted by the zero point, clamping the rounded quotient and scaling it gives the same
    values as torch.fake_quantize_per_tensor_affine (a test compares them), but at ties: that kernel multiplies by
    1 / scale, which puts the largest weight of a symmetric channel, exactly on a tie, on the other side. It is not
    used: on a CPU it took ten times as long (docs/performance.md), it refuses zero points outside the code range, and
    it turns NaN into a number, so that a diverged model would look healthy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
        q = (x / scale).round_()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((q >= low) & (q <= high))
        scalar = scale.ndim == 0 and x.device.type == "cpu" and not torch.compiler.is_compiling()
        if scalar:  # the clamp by numbers is three times faster on a CPU; a GPU would wait, and a compiler stop
            return q.clamp_(low.item(), high.item()).mul_(scale).to(x.dtype)
        return q.clamp_(low, high).mul_(scale).to(x.dtype)  # per-group scales promote half precision

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None
