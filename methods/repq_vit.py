"""RepQ-ViT: scale reparameterisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    Granularity,
    Linear,
    Method,
    Operand,
    PreparedModel,
    Quantizer,
    Uniform,
    Unsupported,
    fold_into_layer_norm,
    least_error_affine,
    prepare,
    watching,
)
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.model.operand_kinds import Kind, operand_kinds
from vitptq.methods.core.model.rotation import Rotation, rotated
from vitptq.methods.core.quantizers.log import ZeroCode
from vitptq.methods.core.ranges.percentile_error import least_error_log_sqrt2


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
    parity: ClassVar[Mapping[str, Any]] = {"form": "released"}
    parity_test = "tests/parity/test_repq_vit.py"
    inferred = (
        "the mean zero point is rounded (the official code does not, and then emits 2^b + 1 values; "
        "round_zero_point=False gives that form)",
        "the last log-sqrt2 code decodes to 0, which keeps 2^b values (the official code has 0 as one value more; "
        'zero_code="extra" gives that form)',
        "a channel that is constant on the calibration images gets a grid with 0 and its value",
        'form="released" beside the official code, tests/parity/test_repq_vit.py: scales to 1e-5 (those behind the '
        "softmax to 5e-5, by the rank that torch.quantile takes in float32), zero points and what the grids put out; "
        "on mini_vit with 32 images the accuracy differed by +0.23, +0.17 and +0.27 points at W8A8, W4A4 and W3A3, "
        "none separated",
        "not compared with the official code: Swin, detectors, ImageNet",
    )
    paper = "Li et al., RepQ-ViT, ICCV 2023, arXiv 2212.08254"

    form: Literal["paper", "released"] = "paper"
    """"released" is what the authors' code does: round_zero_point=False and zero_code="extra"."""
    percentiles: tuple[float, ...] = (0.999, 0.9999, 0.99999)
    round_zero_point: bool = True
    zero_code: ZeroCode = "last"
    rotation: Rotation = "none"
    """Rotate the float model first."""
    min_max: tuple[Kind, ...] = ()
    """Kinds of operands whose ranges are not clipped, on the same grids: to find out which of them clipping harms."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reparameterised, quantised model."""
        return self.calibrated(model, calibration, bits).model

    @torch.no_grad()
    def calibrated(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> PreparedModel:
        """Return the reparameterised model, operands on: what methods that train it start from."""
        net = prepare(rotated(model, self.rotation, calibration.seed), bits)
        if bits.weights == FLOAT_BITS or bits.activations == FLOAT_BITS:
            raise Unsupported(f"RepQ-ViT has no form with float weights or activations ({bits})")
        self._initialise(net, calibration)
        for norm, readers in net.norm_readers():
            self._reparameterise(norm, readers)
            for reader in readers:
                reader.weight_operand.quantizer = self._uniform(reader.weight_operand, reader.weight, "weight")
        net.switch(True)
        return net

    def _initialise(self, net: PreparedModel, calibration: Calibration) -> None:
        """Set every quantizer on the first tensor that reaches it, rounded by the quantizers before it."""
        kinds = operand_kinds(net)

        def watch(operand: Operand, x: Tensor) -> None:
            if operand.quantizer is None:
                operand.quantizer = self._quantizer(operand, x, kinds[operand.name])

        net.switch(True)
        batch = next(iter(calibration.batches()))
        with watching(net.operands, watch):
            calibration.forward(net.model, batch)
        unseen = [name for name, operand in net.operands.items() if operand.quantizer is None]
        if unseen:
            raise Unsupported(f"{unseen[0]} did not run on the first calibration batch, so it has no range")

    def _quantizer(self, operand: Operand, x: Tensor, kind: Kind) -> Quantizer:
        if kind == "softmax":
            return least_error_log_sqrt2(x, operand.bits, self._percentiles(kind), self._zero_code)
        return self._uniform(operand, x, kind)

    def _percentiles(self, kind: Kind) -> tuple[float, ...]:
        return (1.0,) if kind in self.min_max else self.percentiles

    @property
    def _zero_code(self) -> ZeroCode:
        return "extra" if self.form == "released" else self.zero_code

    def _uniform(self, operand: Operand, x: Tensor, kind: Kind) -> Uniform:
        per_channel = kind in ("weight", "layer_norm")
        rows = operand.by_channel(x) if per_channel else x.reshape(1, -1)
        scale, zero = least_error_affine(rows, operand.bits, self._percentiles(kind))
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
        if self.round_zero_point and self.form == "paper":
            mean_zero = mean_zero.round()
        fold_into_layer_norm(norm, readers, scale=scale / mean_scale, shift=scale * (zero - mean_zero))
        for reader in readers:
            reader.input_operand.quantizer = Uniform(quantizer.bits, mean_scale, mean_zero)
