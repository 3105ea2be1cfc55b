"""What stands in the activation slots of a unit while it is trained: dropping (QDrop) and learned scales (LSQ).

QDrop (Wei et al., arXiv 2203.05740): while a unit is trained, each value is quantised with a probability and
else passes in float. The
gradient of a scale s is that of LSQ (Esser et al., arXiv 1902.08153): straight-through for the rounding, so that
dx^/ds is round(x/s) - x/s inside the range and the clipped code outside.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.quantizers.autograd import applied
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, Uniform
from vitptq.methods.core.reconstruct.trainable_quantizer import TrainableQuantizer


def mask(like: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Return ones with probability `probability` and zeros elsewhere, in the shape and type of `like`.

    Floats, because a CPU interpolates by them twelve times faster than it selects by booleans. For one half, eight
    numbers are read off each random byte, which is much faster than drawing each.
    """
    if like.device.type != "cpu" or probability != 0.5:
        return (torch.rand(like.shape, device=like.device, generator=generator) < probability).to(like.dtype)
    count = like.numel()
    words = torch.empty(-(-count // 64), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    ones = _bits().index_select(0, words.view(torch.uint8).int()).view(torch.uint8)
    return ones[:count].to(like.dtype).view(like.shape)


@cache
def _bits() -> Tensor:
    """Return the bits of each byte, (256,): a number holds eight bytes of 0 or 1, so that one look-up fetches them."""
    return ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).to(torch.uint8).view(torch.int64).view(-1)


def mixed(quantised: Tensor, plain: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Return `quantised` with probability `probability`, else `plain`, value by value; exact."""
    if probability == 1:
        return quantised
    # torch.lerp returns its ends exactly where the weight is 0 or 1
    return torch.lerp(plain, quantised, mask(plain, probability, generator))


class TrainableActivation(TrainableQuantizer):
    """One activation slot in training: drops, and gives a uniform grid's scale its gradient if that is learned.

    Of another quantizer, the buffers named in its attribute `learned` are trained; its `quantise_in_training`, or where
    it has none its `quantise`, must have a gradient for them. `nonnegative`: no value is below 0, as behind a softmax,
    which saves the backward pass a tensor.
    """

    def __init__(
        self,
        inner: Quantizer,
        quantised_probability: float,
        generator: torch.Generator,
        *,
        learn: bool,
        nonnegative: bool = False,
    ) -> None:
        super().__init__(inner)
        self.quantised_probability = quantised_probability
        self.generator, self.nonnegative = generator, nonnegative
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
        grid = self.inner
        if not isinstance(grid, Uniform):
            x = x.contiguous()  # a view into queries, keys and values makes all that follows slower
            quantise = getattr(grid, "quantise_in_training", grid.quantise)
            return mixed(quantise(x), x, self.quantised_probability, self.generator)
        chosen = None if self.quantised_probability == 1 else mask(x, self.quantised_probability, self.generator)
        low, high = self.low, self.high
        if isinstance(low, Tensor):
            low, high = grid._like(x, low), grid._like(x, high)

        return applied(_Quantise, x, grid._like(x, grid.scale), low, high, chosen, self.nonnegative)

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
    """Values on the grid where the mask is 1; straight-through for x, LSQ for the scale.

    Each pass costs as much as fetching its tensors from memory, so there are few of them, and what the backward pass
    fetches is one tensor: dx^/ds, in steps. It is at most half a step where a value was rounded, 0 where it was
    dropped, and the clipped code elsewhere; so it also says where no gradient passes, if the ends of the grid that
    values go beyond are a step or more away from 0.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, low: Any, high: Any, mask: Tensor | None, nonnegative: bool
    ) -> Tensor:
        code = _quotient(x, scale, mask)
        hard = code.round().clamp_(low, high)
        ctx.of_scale, ctx.shape = ctx.needs_input_grad[1], scale.shape
        # between which quotients nothing is clipped; ties at the ends count as clipped
        ctx.edges = None
        if isinstance(low, Tensor) or not low <= 0 <= high:
            ctx.save_for_backward(*_by_comparison(code, hard, low, high, mask))
        else:
            edges = ctx.edges = math.ceil(low) - 0.5, math.floor(high) + 0.5
            if not ctx.of_scale:
                ctx.save_for_backward(code)
            elif (low <= -1 or nonnegative) and high >= 1:
                slope = _between(code, code, *edges, out=code)
                ctx.save_for_backward(torch.sub(hard, slope, out=slope))
                ctx.edges = -0.75, 0.75
            else:
                ctx.save_for_backward(code, hard - _between(code, code, *edges))
        hard.mul_(scale)
        # torch.lerp returns its ends exactly where the weight is 0 or 1
        return hard if mask is None else torch.lerp(x, hard, mask, out=hard)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gradient = grads[0].contiguous()
        first, slope = ctx.saved_tensors[0], ctx.saved_tensors[-1]
        through = gradient * first if ctx.edges is None else _between(gradient, first, *ctx.edges)
        of_scale = None
        if ctx.of_scale and ctx.shape:
            of_scale = (gradient * slope).sum_to_size(ctx.shape)
        elif ctx.of_scale:
            of_scale = torch.dot(gradient.view(-1), slope.view(-1))
        return through, of_scale, None, None, None, None


def _quotient(x: Tensor, scale: Tensor, mask: Tensor | None) -> Tensor:
    """Return x / scale, contiguous, and 0 where a value is dropped: it is as good as 0 from here on."""
    # `out`, because a view into queries, keys and values would hand its strides on
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if mask is None:
        return torch.div(x, scale, out=out)
    if x.device.type == "cpu" and not scale.ndim:  # one pass; a GPU would have to wait for the number
        return torch.addcmul(x.new_zeros(()), x, mask, value=1 / scale.item(), out=out)
    return torch.div(x, scale, out=out).mul_(mask)


def _by_comparison(code: Tensor, hard: Tensor, low: Any, high: Any, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return ones where the gradient passes, else zeros, and dx^/ds in steps: for grids per head, or without a 0."""
    passes = (code.round() == hard).to(code.dtype)
    slope = torch.addcmul(hard, code, passes, value=-1)
    if mask is None:
        return passes, slope
    return torch.lerp(torch.ones_like(passes), passes, mask), slope.mul_(mask)


def _between(values: Tensor, where: Tensor, low: float, high: float, out: Tensor | None = None) -> Tensor:
    """Return the values for which low < where < high, and 0 for the others.

    In one pass; a comparison and a product with booleans are two slow ones on a CPU.
    """
    into = torch.empty_like(values) if out is None else out
    found: Tensor = torch.ops.aten.hardtanh_backward.grad_input(values, where, low, high, grad_input=into)
    return found
