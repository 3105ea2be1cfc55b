"""The quantizers of a unit's weights while it is trained: fixed, or with AdaRound's soft rounding.

AdaRound (Nagel et al., arXiv 2004.10568, equations 22 to 24): each weight is rounded down or up,
W^ = s clamp(floor(W/s) + h(a), low, high), with h(a) = clip(1.2 sigmoid(a) - 0.1, 0, 1) while it is learned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.quantizers.autograd import applied
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct.trainable_quantizer import TrainableQuantizer

ZETA, GAMMA = 1.1, -0.1
"""How far the sigmoid is stretched, so that h reaches 0 and 1."""


class FixedWeight(TrainableQuantizer):
    """A weight that is not trained: quantised once."""

    def __init__(self, inner: Quantizer, weight: Tensor) -> None:
        super().__init__(inner)
        with torch.no_grad():
            self.value = inner.quantise(weight)

    def quantise(self, x: Tensor) -> Tensor:
        """Return the quantised weight."""
        return self.value


class AdaRoundWeight(TrainableQuantizer):
    """Soft rounding of one weight; `alpha` is what is learned, in the weight's shape."""

    def __init__(self, inner: Quantizer, weight: Tensor) -> None:
        if not isinstance(inner, Uniform):
            raise Unsupported(f"AdaRound needs a uniform grid for the weights, not {type(inner).__name__}")
        super().__init__(inner)
        scale, zero = inner._like(weight, inner.scale), inner._like(weight, inner.zero_point)
        with torch.no_grad():
            quotient = weight / scale
            self.floor = quotient.floor()
            self.alpha = start(quotient - self.floor)
            low, high = inner.low - zero, inner.high - zero
            self.scale, self.down = scale, self.floor.clamp(low, high) * scale
            # where both ways lead out of the range, the weight stays at its end
            self.step = ((self.floor + 1).clamp(low, high) * scale).sub_(self.down)
        self.alpha.requires_grad_()

    def quantise(self, x: Tensor) -> Tensor:
        """Return the softly rounded weight, with a gradient for `alpha`."""

        return applied(_SoftRound, self.alpha, self.down, self.step)

    @torch.no_grad()
    def harden(self, weight: nn.Parameter) -> None:
        """Write s (floor(W/s) + [alpha >= 0]) into `weight`, which plain rounding then leaves where it is."""
        weight.copy_((self.floor + (self.alpha >= 0)) * self.scale)

    @torch.no_grad()
    def keep(self, weight: nn.Parameter) -> None:
        """Write s (floor(W/s) + h(alpha)) into `weight`: plain rounding takes it where `harden` would have."""
        weight.copy_((self.floor + h(self.alpha)) * self.scale)


def start(fraction: Tensor) -> Tensor:
    """Return the alpha with h(alpha) = fraction, so that training starts at the float weight; fraction in [0, 1)."""
    return -torch.log((ZETA - GAMMA) / (fraction - GAMMA) - 1)


def h(alpha: Tensor) -> Tensor:
    """Return how far each weight is rounded up, in [0, 1]."""
    return (alpha.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def regulariser(alpha: Tensor, beta: float) -> Tensor:
    """Return the sum of 1 - |2h - 1|^beta: 0 once every weight has chosen."""
    return (1 - (2 * h(alpha) - 1).abs().pow(beta)).sum()


@torch.no_grad()
def regularise(alpha: Tensor, beta: float, weight: float) -> None:
    """Add the gradient of weight * regulariser(alpha, beta) to alpha.grad, without a graph."""
    assert alpha.grad is not None
    s = alpha.sigmoid()
    d = s.mul(2 * (ZETA - GAMMA)).add_(2 * GAMMA - 1)  # 2h - 1 before the clip
    power = d.abs().log2_().mul_(beta - 1).exp2_().copysign_(d)  # |d|^(beta - 1), faster than pow_
    power = torch.ops.aten.hardtanh_backward(power, d, -1.0, 1.0)  # beyond, h is clipped
    slope = torch.ops.aten.sigmoid_backward(power, s)
    alpha.grad.add_(slope, alpha=-2 * beta * (ZETA - GAMMA) * weight)


def beta_at(step: int, steps: int, start: float = 20.0, end: float = 2.0, warm_up: float = 0.2) -> float | None:
    """Return the exponent of the regulariser at step 1 .. `steps`; None while it is not in force yet.

    It falls linearly from `start`, where a fraction `warm_up` of the steps is over, to `end` at the last one.
    """
    begin = warm_up * steps
    if step < begin:
        return None
    return end + (start - end) * max(0.0, 1 - (step - begin) / max(steps - begin, 1e-9))


class _SoftRound(torch.autograd.Function):
    """down + h(alpha) step, which is s clamp(floor + h(alpha), low, high) where low and high are integers."""

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, down: Tensor, step: Tensor) -> Tensor:
        sigmoid = alpha.sigmoid()
        ctx.save_for_backward(sigmoid, step)
        return torch.addcmul(down, sigmoid.mul(ZETA - GAMMA).add_(GAMMA).clamp_(0, 1), step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        sigmoid, step = ctx.saved_tensors
        slope = torch.ops.aten.sigmoid_backward(grads[0] * step, sigmoid)
        reach = 0.5 / (ZETA - GAMMA)  # where h is not clipped
        slope = torch.ops.aten.hardtanh_backward(slope, sigmoid, 0.5 - reach, 0.5 + reach)
        return slope.mul_(ZETA - GAMMA), None, None
