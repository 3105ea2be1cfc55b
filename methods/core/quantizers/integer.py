"""LayerNorm and softmax on integers (FQ-ViT, arXiv 2111.13824): power-of-two factors, and log-int-softmax."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.quantizer import Quantizer

SCORE_LEVELS = 255
"""The scores have 8 bits, whatever the bit spec: they enter no product."""
INTEGER_EXPONENT_BITS = 30
"""The integer exponential is scaled by 2^30, and scores that far below the largest count as that far."""

SQUARE, LINEAR = 0.35815147, 0.96963238
"""Coefficients of the polynomial that stands for exp on (-ln 2, 0]; its constant is 1."""


def rounded(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return `x` on an unsigned grid."""
    return codes(x, scale, zero, bits) * scale


def codes(x: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    """Return the codes of `x` less the zero point: integers."""
    return ((x / scale).round() + zero).clamp(0, 2**bits - 1) - zero


class IntegerLayerNorm(nn.Module):
    """LayerNorm of integers, with integers as output (FQ-ViT, section 3.2): sums, products and shifts.

    Simulated in float64, in which all the integers are exact. The input is rounded to codes with the scale
    s_c = base / 8 * 2^(k_c) of its channel; the output is a multiple of `out_scale`. `eps` is the norm's own unless
    given: the released code has none, and divides by zero where all channels of a token are equal.
    """

    base: Tensor
    zero: Tensor
    factors: Tensor
    out_scale: Tensor

    def __init__(
        self,
        norm: Any,
        base: Tensor,
        zero: Tensor,
        factors: Tensor,
        out_scale: Tensor,
        bits: int,
        *,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.bits = norm.weight, norm.bias, bits
        self.eps = norm.eps if eps is None else eps
        for name, value in (("base", base), ("zero", zero), ("factors", factors), ("out_scale", out_scale)):
            self.register_buffer(name, value.detach().clone())

    def input_scale(self) -> Tensor:
        """Return the scale of each channel, shape (C,)."""
        return self.base / 8 * self.factors.to(self.base).exp2()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis, shape (..., C)."""
        smallest = self.base.double() / 8 * self.factors.amin().double().exp2()
        shifts = (self.factors - self.factors.amin()).double().exp2()
        integers = codes(x, self.input_scale(), self.zero, self.bits).double() * shifts  # X, on the common scale
        count = x.shape[-1]
        total = integers.sum(-1, keepdim=True)
        mean = smallest * total / count
        spread = count * integers.square().sum(-1, keepdim=True) - total.square()
        sigma = (smallest.square() * spread / count**2 + self.eps).sqrt()
        gamma = torch.ones(count, device=x.device) if self.weight is None else self.weight
        beta = torch.zeros(count, device=x.device) if self.bias is None else self.bias
        out_scale = self.out_scale.double()
        factor = smallest * gamma.double() / (sigma * out_scale)  # A
        multiplier, shift = as_integer(factor)
        offset = ((beta.double() - mean * gamma.double() / sigma) / out_scale * shift.exp2()).round()  # B
        out = ((factor.sign() * multiplier * integers + offset) / shift.exp2()).round() * out_scale
        result: Tensor = out.to(x.dtype)
        return result


def as_integer(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return M (8 bits) and N (0 to 31) with |factor| ~ M 2^-N (section 3.2, step 3 of the algorithm)."""
    size = factor.abs()
    shift = (7 - size.log2().floor()).clamp(0, 31)
    return (size * shift.exp2()).floor().clamp(0, 255), shift


class _PowersOfTwo(Quantizer):
    """What both integer softmaxes put out: 2^-code, and with `zero` 0 as one more value behind the last code."""

    scale: Tensor
    table: Tensor

    def __init__(self, bits: int, scale: Tensor, *, zero: bool = False) -> None:
        super().__init__(bits)
        self.zero = zero
        powers = (-torch.arange(2**bits, device=scale.device, dtype=torch.float32)).exp2()
        self.register_buffer("scale", scale.detach().float().reshape(()))
        self.register_buffer("table", torch.cat([powers, powers.new_zeros(1)]) if zero else powers)

    @property
    def granularity(self) -> str:
        """Name what shares one grid: the tensor."""
        return "tensor"

    def of_integers(self, scores: Tensor) -> Tensor:
        """Return the softmax of integer scores whose rows have the maximum 0, over the last axis."""
        codes = log_int_softmax(scores, self.scale).clamp_max(len(self.table) - 1)
        return self.table[codes.long()]

    def grid(self) -> Tensor:
        """Return every representable value, ascending, shape (1, levels)."""
        return self.table.flip(0)[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (1, values)."""
        return x.reshape(1, -1)

    def extra_repr(self) -> str:
        """Describe the grid in a printed model."""
        return f"bits={self.bits}, scale={self.scale.item():.3g}, zero={self.zero}"


class LogIntSoftmax(_PowersOfTwo):
    """Integer softmax with powers of two as output (FQ-ViT, section 3.3), in the slot behind a float softmax.

    Softmax forgets the level of a row's scores, so the logarithms of the probabilities are the scores relative to the
    largest: these are rounded to integers with the step `scale`, and everything behind that is on integers.
    """

    def quantise(self, x: Tensor) -> Tensor:
        """Return the integer softmax of the scores behind the probabilities `x`, which sum to 1 over the last axis."""
        with torch.no_grad():
            scores = (relative_scores(x).double() / self.scale.double()).round().clamp_min(-SCORE_LEVELS)
            values = self.of_integers(scores)
        return values if not x.requires_grad else values + (x - x.detach())


class IntegerSoftmax(_PowersOfTwo):
    """Integer softmax in the place of the float one (FQ-ViT, section 3.3): it reads scores on a grid of step `scale`.

    The released code does not round the quotients x / s to the integers that they stand for, and has 24 bits for the
    sums: with `exact` off it is followed in this, because a quotient just below an integer falls by a whole octave.
    """

    def __init__(self, bits: int, scale: Tensor, *, zero: bool = False, exact: bool = True) -> None:
        super().__init__(bits, scale, zero=zero)
        self.exact = exact

    def quantise(self, x: Tensor) -> Tensor:
        """Return the integer softmax of the scores `x` over the last axis; no gradient."""
        with torch.no_grad():
            scores = x.float() / self.scale
            if self.exact:
                scores = scores.round().double()
            return self.of_integers(scores - scores.amax(dim=-1, keepdim=True))


def relative_scores(probabilities: Tensor) -> Tensor:
    """Return the scores that softmax saw over the last axis, less the largest of each row; none below float's reach."""
    log = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
    return log - log.amax(dim=-1, keepdim=True)


def score_scale(spread: Tensor) -> Tensor:
    """Return the step of 8-bit scores over a row's `spread`, cut where the integer exponential ends.

    The step stays below 0.082; above 0.1 the polynomial's integer constants are bad. A coarse step also makes an octave
    too long (9 steps of 0.08 are 0.72, not ln 2), which raises small probabilities: that is the published form.
    """
    return spread.clamp(1e-3, INTEGER_EXPONENT_BITS * 0.6931) / SCORE_LEVELS


def log_int_softmax(scores: Tensor, scale: Tensor) -> Tensor:
    """Return the codes, softmax ~ 2^-code, of integer scores with maximum 0 per row (section 3.3).

    exp on (-ln 2, 0] is SQUARE t^2 + LINEAR t + 1, divided by its first coefficient and put on integers.
    In float64 all integers are exact, in float32 to 24 bits; codes are not limited here.
    """
    step = scale.to(scores.dtype)
    octave = (-0.6931 / step).floor()  # x0, negative
    linear, constant = (LINEAR / SQUARE / step).floor(), (1 / SQUARE / step.square()).floor()
    scores = scores.maximum(INTEGER_EXPONENT_BITS * octave)
    quotient = (scores / octave).floor()
    rest = scores - octave * quotient  # in (x0, 0]
    exponential = ((rest * (rest + linear) + constant) * (INTEGER_EXPONENT_BITS - quotient).exp2()).floor().clamp_min(0)
    inverse = (exponential.sum(dim=-1, keepdim=True) / exponential).round()  # P, infinite where the exponential is 0
    whole = inverse.log2().floor()
    return whole + (inverse >= 1.5 * whole.exp2())
