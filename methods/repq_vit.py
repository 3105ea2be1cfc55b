"""RepQ-ViT: scale reparameterisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.bits import FLOAT_BITS, BitSpec
from bench.errors import Unsupported
from bench.protocol import Calibration, Method, Quantizer
from methods.core.explicit import Explicit, explicit
from methods.core.observe import watching
from methods.core.operands import Linear, Operand
from methods.core.quantizers import SCALE_FLOOR, Granularity, LogSqrt2, Uniform, ZeroCode
from methods.core.ranges import percentile

CONSTANT = 1e-4
"""A channel whose range is smaller than this share of its values is taken as constant."""


@dataclass(frozen=True)
class RepQViT(Method):
    """Channel-wise ranges after LayerNorm, folded into the LayerNorm and the next layer; log-sqrt2 after softmax.

    1. One forward pass of the first calibration batch initialises every quantizer on what it sees, upstream quantizers
       on: of three percentile ranges the one with the least squared error; inputs behind a LayerNorm per channel.
    2. Each LayerNorm and its readers are rewritten so that one scale per tensor gives the codes of the per-channel
       ones.
    3. The rewritten weights get new ranges. Nothing is trained.
    """

    name = "repq-vit"
    title = "RepQ-ViT"
    fidelity = "paper"
    inferred = (
        "the mean zero point is rounded (the official code does not, and then emits 2^b + 1 values; "
        "round_zero_point=False gives that form)",
        "the last log-sqrt2 code decodes to 0, which keeps 2^b values (the official code has 0 as one value more; "
        'zero_code="extra" gives that form)',
        "a channel that is constant on the calibration images gets a grid with 0 and its value",
        "not compared with the official code yet",
    )
    paper = "Li et al., RepQ-ViT, ICCV 2023, arXiv 2212.08254"

    percentiles: tuple[float, ...] = (0.999, 0.9999, 0.99999)
    round_zero_point: bool = True
    zero_code: ZeroCode = "last"

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reparameterised, quantised model."""
        return self.calibrated(model, calibration, bits).model

    @torch.no_grad()
    def calibrated(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> Explicit:
        """Return the reparameterised model, operands on: what methods that train it start from."""
        net = explicit(model, bits)
        if bits.weights == FLOAT_BITS or bits.activations == FLOAT_BITS:
            raise Unsupported(f"RepQ-ViT has no form with float weights or activations ({bits})")
        by_channel = {reader.input_operand.name for _, readers in net.norm_readers() for reader in readers}
        self._initialise(net, calibration, by_channel)
        for norm, readers in net.norm_readers():
            self._reparameterise(norm, readers)
            for reader in readers:
                reader.weight_operand.quantizer = self._uniform(reader.weight_operand, reader.weight, per_channel=True)
        net.switch(True)
        return net

    def _initialise(self, net: Explicit, calibration: Calibration, by_channel: set[str]) -> None:
        """Set every quantizer on the first tensor that reaches it, rounded by the quantizers before it."""

        def watch(operand: Operand, x: Tensor) -> None:
            if operand.quantizer is None:
                operand.quantizer = self._quantizer(operand, x, by_channel)

        net.switch(True)
        batch = next(iter(calibration.batches()))
        watching(net.operands, watch, lambda: calibration.forward(net.model, batch))
        unseen = [name for name, operand in net.operands.items() if operand.quantizer is None]
        if unseen:
            raise Unsupported(f"{unseen[0]} did not run on the first calibration batch, so it has no range")

    def _quantizer(self, operand: Operand, x: Tensor, by_channel: set[str]) -> Quantizer:
        if operand.role == "softmax":
            return least_error_log_sqrt2(x, operand.bits, self.percentiles, self.zero_code)
        return self._uniform(operand, x, per_channel=operand.role == "weight" or operand.name in by_channel)

    def _uniform(self, operand: Operand, x: Tensor, *, per_channel: bool) -> Uniform:
        rows = operand.by_channel(x) if per_channel else x.reshape(1, -1)
        scale, zero = least_error_affine(rows, operand.bits, self.percentiles)
        axis = operand.channel_axis if per_channel else None
        granularity: Granularity = "channel" if per_channel else "tensor"
        return Uniform(operand.bits, scale, zero, axis=axis, granularity=granularity)

    def _reparameterise(self, norm: nn.LayerNorm, readers: tuple[Linear, ...]) -> None:
        """Fold the variation of per-channel scales and zero points into `norm` and its readers (section 3.3).

        All readers see the same tensor, so the first one's ranges serve them all.
        """
        quantizer = readers[0].input_operand.quantizer
        assert isinstance(quantizer, Uniform)
        scale, zero = quantizer.scale, quantizer.zero_point  # (D,)
        mean_scale, mean_zero = scale.mean(), zero.mean()
        if self.round_zero_point:
            mean_zero = mean_zero.round()
        fold(norm, readers, r1=scale / mean_scale, shift=scale * (zero - mean_zero))
        for reader in readers:
            reader.input_operand.quantizer = Uniform(quantizer.bits, mean_scale, mean_zero)


def fold(norm: nn.LayerNorm, readers: tuple[Linear, ...], r1: Tensor, shift: Tensor) -> None:
    """Make `norm` put out (x + shift) / r1 and let its readers undo it: the float function stays as it was.

    gamma' = gamma / r1, beta' = (beta + shift) / r1, W' = W * r1, b' = b - W shift; `r1`, `shift`: (D,). Where zeros
    are padded between `norm` and its readers, they are to become shift / r1 too, so that is added behind the padding.
    """
    padded = any(reader.behind_padding for reader in readers)
    norm.weight.copy_(norm.weight / r1)
    norm.bias.copy_((norm.bias if padded else norm.bias + shift) / r1)
    for reader in readers:
        if padded:
            reader.shift = (shift if reader.shift is None else reader.shift + shift) / r1
        correction = reader.weight @ shift
        bias: nn.Parameter | None = reader.bias  # Swin's patch merging has none
        if bias is None:
            reader.bias = nn.Parameter(-correction, requires_grad=False)
        else:
            bias.copy_(bias - correction)
        reader.weight.copy_(reader.weight * r1)


def least_error_affine(rows: Tensor, bits: int, percentiles: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Return, per row of (groups, values), scale and zero point of the percentile range with the least squared error.

    s = (hi - lo) / L and z = round(-lo / s); z is not clamped, so a one-sided channel has it outside the code range.
    """
    levels = 2**bits - 1
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for fraction in percentiles:
        low, high = percentile(rows, fraction)
        scale, zero = _covering(low, high, levels)
        error = (Uniform(bits, scale, zero, axis=0)(rows) - rows).square().mean(dim=1)
        if best is None:
            best = error, scale, zero
        else:
            better = error < best[0]
            best = (error.minimum(best[0]), scale.where(better, best[1]), zero.where(better, best[2]))
    assert best is not None
    return best[1], best[2]


def _covering(low: Tensor, high: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Return scale and zero point for the range; a constant channel gets a grid that holds 0 and its value.

    The paper's form would divide by a floor there, and the zero point of one such channel, in the millions, would
    spoil the mean over all channels.
    """
    constant = high - low < CONSTANT * torch.maximum(low.abs(), high.abs()).clamp_min(SCALE_FLOOR)
    scale = torch.where(constant, torch.maximum(low.abs(), high.abs()), high - low) / levels
    scale = scale.clamp_min(SCALE_FLOOR)
    zero = torch.where(constant, torch.where(high < 0, float(levels), 0.0), (-low / scale).round())
    return scale, zero


def least_error_log_sqrt2(x: Tensor, bits: int, percentiles: tuple[float, ...], zero_code: ZeroCode) -> LogSqrt2:
    """Return the log-sqrt2 quantizer whose ceiling, of the given percentiles of `x`, has the least squared error."""
    candidates = [LogSqrt2(bits, percentile(x.reshape(1, -1), p)[1], zero_code=zero_code) for p in percentiles]
    errors = torch.stack([(candidate(x) - x).square().mean() for candidate in candidates])
    return candidates[int(errors.argmin())]
