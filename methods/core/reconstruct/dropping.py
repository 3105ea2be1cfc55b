"""What stands in the activation slots of a unit while it is trained: dropping (QDrop) and learned scales (LSQ).

QDrop (Wei et al., arXiv 2203.05740): each value is quantised with probability `keep` and else passes in float. The
gradient of a scale s is that of LSQ (Esser et al., arXiv 1902.08153): straight-through for the rounding, so that
dx^/ds is round(x/s) - x/s inside the range and the clipped code outside.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from bench.protocol import Quantizer
from methods.core.quantizers import SCALE_FLOOR, Uniform
from methods.core.reconstruct.rounding import Training


def mask(like: Tensor, keep: float, generator: torch.Generator) -> Tensor:
    """Return ones with probability `keep` and zeros elsewhere, in the shape and type of `like`.

    Floats, because a CPU interpolates by them twelve times faster than it selects by booleans. For one half, eight
    numbers are read off each random byte, which is nine times faster than drawing each.
    """
    if like.device.type != "cpu" or keep != 0.5:
        return (torch.rand(like.shape, device=like.device, generator=generator) < keep).to(like.dtype)
    count = like.numel()
    words = torch.empty(-(-count // 64), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    ones = _bits(like.dtype).index_select(0, words.view(torch.uint8).int())
    return ones.view(-1)[:count].view(like.shape)


@cache
def _bits(dtype: torch.dtype) -> Tensor:
    """Return the bits of each byte, (256, 8)."""
    return ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).to(dtype)


def mixed(quantised: Tensor, plain: Tensor, keep: float, generator: torch.Generator) -> Tensor:
    """Return `quantised` with probability `keep`, else `plain`, value by value; exact."""
    if keep == 1:
        return quantised
    # torch.lerp returns its ends exactly where the weight is 0 or 1
    return torch.lerp(plain, quantised, mask(plain, keep, generator))


class Activation(Training):
    """One activation slot in training: drops, and gives a uniform grid's scale its gradient if that is learned.

    Of another quantizer, the buffers named in its attribute `learned` are trained; its `quantise` must have a
    gradient for them.
    """

    def __init__(self, inner: Quantizer, keep: float, generator: torch.Generator, *, learn: bool) -> None:
        super().__init__(inner)
        self.keep, self.generator = keep, generator
        self.low: Any = 0
        self.high: Any = 0
        if isinstance(inner, Uniform):
            self.low, self.high = inner.low - inner.zero_point, inner.high - inner.zero_point
            if self.low.numel() == 1:  # plain numbers: the scalar clamp is faster, and a GPU need not wait for it
                self.low, self.high = self.low.item(), self.high.item()
        names = ("scale",) if isinstance(inner, Uniform) else getattr(inner, "learned", ())
        self.learned: list[Tensor] = [getattr(inner, name) for name in names] if learn else []
        for parameter in self.learned:
            parameter.requires_grad_()

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` with some of its values on the grid."""
        if x.dtype in (torch.bfloat16, torch.float16):
            x = x.float()
        x = x.contiguous()  # a view into queries, keys and values makes all that follows slower
        grid = self.inner
        if not isinstance(grid, Uniform):
            return mixed(grid.quantise(x), x, self.keep, self.generator)
        chosen = None if self.keep == 1 else mask(x, self.keep, self.generator)
        low, high = self.low, self.high
        if isinstance(low, Tensor):
            low, high = grid._like(x, low), grid._like(x, high)
        # cast: an autograd function's apply is untyped
        return cast(Tensor, _Quantise.apply(x, grid._like(x, grid.scale), low, high, chosen))

    @torch.no_grad()
    def guard(self) -> None:
        """Keep the scale positive after a step of the optimiser."""
        if isinstance(self.inner, Uniform) and self.learned:
            self.inner.scale.abs_().clamp_min_(SCALE_FLOOR)

    def release(self) -> None:
        """Let go of the gradients."""
        for parameter in self.learned:
            parameter.requires_grad_(False)
            parameter.grad = None


class _Quantise(torch.autograd.Function):
    """Values on the grid where the mask is 1; straight-through for x, LSQ for the scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Any, high: Any, mask: Tensor | None) -> Tensor:
        code = (x * scale.reciprocal()).round_()
        hard = code.clamp(low, high)
        stopped = code.ne_(hard)  # where no gradient passes: clipped, and not dropped
        out = hard.mul_(scale)
        if mask is not None:
            out = torch.lerp(x, out, mask)
            stopped.mul_(mask)
        ctx.of_scale = ctx.needs_input_grad[1]
        if ctx.of_scale:
            ctx.save_for_backward(stopped, x, out, scale)
        else:
            ctx.save_for_backward(stopped)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        gradient = grads[0].contiguous()
        stopped = ctx.saved_tensors[0]
        through = torch.addcmul(gradient, gradient, stopped, value=-1)
        if not ctx.of_scale:
            return through, None, None, None, None
        # s dx^/ds: x^ - x inside the range, x^ where clipped, 0 where dropped; that is x^ - x (1 - stopped)
        _, x, out, scale = ctx.saved_tensors
        if scale.ndim == 0:
            both = torch.dot(gradient.view(-1), out.view(-1)) - torch.dot(through.view(-1), x.view(-1))
            return through, both / scale, None, None, None
        both = torch.addcmul(gradient * out, through, x, value=-1)
        return through, both.sum_to_size(scale.shape) / scale, None, None, None
