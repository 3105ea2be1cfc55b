"""AdaLog: logarithmic grids whose base is chosen (Wu et al., ECCV 2024, arXiv 2407.12951)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.quantizers.autograd import applied
from vitptq.methods.core.quantizers.log import ZeroCode
from vitptq.methods.core.quantizers.lookup_table import looked_up
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, OnGrids

STEPS = 37
"""The base is 2^(q / 37): q = 37 is base 2, the finest is q = 10, the coarsest q = 137."""
BASES = (10, 138)
"""First q, and the one behind the last."""
GELU_DEPTH = 0.16997124254703522
"""Minus the least value of GELU, at x = -0.7518."""
Gradient = Literal["table", "log"]
"""What a reconstruction trains through: the table, straight-through as a whole, or the logarithm of the released code,
straight-through for the rounding alone."""


def decoded(q: Tensor, bits: int, zero_code: ZeroCode = "last") -> Tensor:
    """Return what each code decodes to at ceiling 1, shape (*q.shape, codes), descending, with a last 0.

    2^(-c q / 37) as a shift by a whole number of bits times one of 37 fractions, which are kept with bits + 1 bits (in
    steps of 1 / M, M = 2^(bits + 1) - 2). "last": the last of the 2^bits codes is 0; "extra": 0 is one value more, as
    in the released code.
    """
    count = 2**bits - (1 if zero_code == "last" else 0)
    product = q[..., None].double() * torch.arange(count, device=q.device)  # (..., codes)
    fine = 2.0 ** (bits + 1) - 2
    whole = (product / STEPS).floor()
    fraction = ((-(product - whole * STEPS) / STEPS).exp2() * fine).round() / fine
    values = (-whole).exp2() * fraction
    return torch.cat([values, values.new_zeros(*q.shape, 1)], dim=-1)


def places(x: Tensor, ceiling: Tensor, q: Tensor) -> Tensor:
    """Return round(-log2(x / S) 37 / q), before it is clipped: infinite for what is not above 0."""
    return (x / ceiling).clamp_(0, 1).log2_().mul_(-STEPS / q).round_()


class AdaptiveLog(Quantizer):
    """Grid of S 2^(-c q / 37) for values in [0, S], per tensor; `shift` moves it: x is quantised as x + shift.

    `shift` is for what leaves a GELU. As long as `folded` is off, the shift is taken off again behind the rounding;
    then it belongs to the bias of the layer that reads the values (`fold_shift`).
    """

    ceiling: Tensor
    q: Tensor
    unit: Tensor
    folded: Tensor

    def __init__(
        self,
        bits: int,
        ceiling: Tensor,
        q: Tensor,
        *,
        shift: float = 0.0,
        zero_code: ZeroCode = "last",
        gradient: Gradient = "table",
    ) -> None:
        super().__init__(bits)
        self.zero_code = zero_code
        self.gradient = gradient
        self.shift = shift
        self.register_buffer("ceiling", ceiling.detach().float().reshape(()).clamp_min(SCALE_FLOOR))
        self.register_buffer("q", q.detach().float().reshape(()))
        self.register_buffer("unit", decoded(self.q, bits, zero_code).float())
        self.register_buffer("folded", torch.zeros((), dtype=torch.bool, device=ceiling.device))

    @property
    def learned(self) -> tuple[str, ...]:
        """Name the buffers that a reconstruction trains: the ceiling, except that of probabilities, which is 1."""
        return ("ceiling",) if self.shift else ()

    @property
    def granularity(self) -> str:
        """Name what shares one grid: the tensor."""
        return "tensor"

    def _offset(self) -> Tensor:
        return self.shift * (~self.folded).float()

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` on the grid, straight-through between 0 and the ceiling; the ceiling's gradient is as LSQ's."""
        found = applied(_Decode, x + self.shift, self.ceiling, self.q, self.unit)
        return found - self._offset() if self.shift else found

    def quantise_in_training(self, x: Tensor) -> Tensor:
        """Return what stands for `quantise(x)` while a unit is trained, with the gradient that `gradient` names."""
        if self.gradient == "table":
            return self.quantise(x)
        codes = torch.arange(len(self.unit) - 1, device=x.device)
        powers = torch.cat([(-codes * self.q / STEPS).exp2(), self.unit[-1:]])
        found = applied(_DecodeThroughLog, x + self.shift, self.ceiling, self.q, powers)
        return found - self._offset() if self.shift else found

    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (1, levels)."""
        return (self.unit * self.ceiling - self._offset()).flip(0)[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (1, values)."""
        return x.reshape(1, -1)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, q={self.q.item():g}, shift={self.shift:g}, zero_code={self.zero_code}"


class _Decode(torch.autograd.Function):
    """Values on the grid; straight-through for x, and dx^/dS = (x^ - x) / S inside, x^ / S outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: Tensor, q: Tensor, unit: Tensor) -> Tensor:
        # a table, because exp2 of the same code may differ in the last bit between vector and scalar lanes
        out = looked_up(unit * ceiling, places(x, ceiling, q)).to(x.dtype)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            inside = (x >= 0) & (x <= ceiling)
            ctx.save_for_backward(inside, x, out, ceiling)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        inside, x, out, ceiling = ctx.saved_tensors
        through = grads[0] * inside
        return through, ((grads[0] * out).sum() - (through * x).sum()) / ceiling, None, None


class _DecodeThroughLog(torch.autograd.Function):
    """Values on the grid; straight-through for the rounding of the logarithm alone.

    With c = round(-log2(x / S) 37 / q) and x^ = S 2^(-c q / 37): dx^/dx = x^ / x and dx^/dS = 0 inside; above the
    ceiling x^ = S, so they are 0 and 1.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: Tensor, q: Tensor, unit: Tensor) -> Tensor:
        out = looked_up(unit * ceiling, places(x, ceiling, q)).to(x.dtype)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            above = x > ceiling
            ctx.save_for_backward((out / x).masked_fill_(above | (out == 0), 0), above)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        slope, above = ctx.saved_tensors
        return grads[0] * slope, (grads[0] * above).sum(), None, None


@torch.no_grad()
def fold_shift(layer: Linear) -> None:
    """Let the layer's bias undo the shift of its input: b' = b - d sum_j W^_ij; its output stays what it was."""
    quantizer, weights = layer.input_operand.quantizer, layer.weight_operand.quantizer
    assert isinstance(quantizer, AdaptiveLog) and weights is not None and not quantizer.folded
    correction = quantizer.shift * weights(layer.weight).sum(dim=1)
    bias: nn.Parameter | None = layer.bias
    if bias is None:
        layer.bias = nn.Parameter(-correction, requires_grad=False)
    else:
        bias.sub_(correction)
    quantizer.folded.fill_(True)


def on_grids(x: Tensor, bits: int, shift: float, zero_code: ZeroCode = "last") -> OnGrids:
    """Return what puts `x` on grids, given their ceilings and q, shaped to broadcast. The logarithm is taken once."""
    log = (x + shift).clamp_min_(0).log2_().nan_to_num_(-torch.inf, neginf=-torch.inf)

    def on(ceilings: Tensor, q: Tensor) -> Tensor:
        tables = decoded(q, bits, zero_code).to(x.dtype) * ceilings[..., None] - shift  # (*q.shape, codes)
        rate = -STEPS / q
        # half a code more, so that the conversion to integers, which cuts, rounds
        codes = (log * rate).sub_(ceilings.log2() * rate - 0.5).clamp_(0, tables.shape[-1] - 1)
        if q.numel() > 1:
            codes.floor_().add_(torch.arange(q.numel(), device=x.device).reshape(q.shape) * tables.shape[-1])
        flat = codes.to(torch.int32).reshape(-1)
        return tables.reshape(-1).index_select(0, flat).reshape(codes.shape)

    return on
