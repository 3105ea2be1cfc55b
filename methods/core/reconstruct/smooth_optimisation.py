"""Smooth optimisation in three stages: I&S-ViT (Zhong et al., arXiv 2311.10126, section 4.3) and its successors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Linear, MatMul, Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.uniform import Granularity, Uniform
from vitptq.methods.core.ranges.percentile_error import least_error_affine
from vitptq.methods.core.reconstruct import Settings, all_units, reconstruct
from vitptq.methods.core.search.uniform_search import refuse_float_sides

ACTIVATION_PERCENTILES = (0.999, 0.9999, 0.99999)
WEIGHT_PERCENTILES = (0.97, 0.98, 0.99, 0.995, 0.9995, 0.9997, 0.9999, 0.99995, 0.99999)
RANGE_PIXELS = 64 * 224**2
"""No more than this many pixels are joined to set the ranges: 64 images of ImageNet, few of a detector."""

AfterSoftmax = Callable[[Tensor, int], Quantizer]
"""(attention probabilities, bits) to their quantizer."""
Centre = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(scales, zero points), each (D,), to the one scale and zero point that take their place."""


@dataclass(frozen=True)
class SmoothOptimisation:
    """Train with weights in float, fold the per-channel grids, quantise the weights, train again.

    1. Activations are quantised, per channel behind a LayerNorm. Each unit's weights are trained to put out what they
       do in float, on the float model's inputs.
    2. The per-channel grids are folded into the LayerNorm and its readers: the float function stays as it was.
    3. The weights get their grids, and each unit is trained again, on what the quantised model gives it.
    """

    name: str
    """Of the method, for messages."""
    after_softmax: AfterSoftmax
    centre: Centre
    settings: Settings
    """Of both trainings, but for the input."""
    range_images: int = 64
    reductions: bool = False
    """Whether the LayerNorm of Swin's patch merging is folded, too; the paper's code leaves it."""
    image: bool = True
    """Whether the image is quantised at the patch embedding; the released code leaves it in float."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the quantised model."""
        net, twin = prepare(model, bits), prepare(model, bits)
        refuse_float_sides(net, self.name)
        self.set_activations(net, calibration)
        self.train(net, twin, calibration, 1)
        self.reparameterise(net)
        set_weights(net)
        net.switch(True, image=self.image)
        self.train(net, twin, calibration, 3)
        return net.model

    def train(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration, stage: int) -> None:
        """Train every unit, in stage 1 on the float model's inputs, in stage 3 on the quantised model's."""
        # each stage has its own draws
        settings = replace(
            self.settings, input="float" if stage == 1 else "quantised", seed=self.settings.seed * 2 + (stage == 3)
        )
        if settings.iterations:
            reconstruct(net, twin, calibration, settings, units=all_units(net), tag=f"stage {stage}")

    @torch.no_grad()
    def set_activations(self, net: PreparedModel, calibration: Calibration) -> None:
        """Set each activation's quantizer on the first tensor that reaches it, rounded by those before it."""
        by_channel = {reader.input_operand for _, readers in self.folded(net) for reader in readers}

        def watch(operand: Operand, x: Tensor) -> None:
            if operand.quantizer is not None:
                return
            operand.on = self.image or operand.role != "stem_input"
            if operand.role == "softmax":
                operand.quantizer = self.after_softmax(x, operand.bits)
            else:
                operand.quantizer = affine(operand, x, ACTIVATION_PERCENTILES, per_channel=operand in by_channel)

        net.switch(False)
        batch = leading(calibration, self.range_images)
        with watching(net.activations, watch):
            calibration.forward(net.model, batch)
        unseen = [name for name, operand in net.activations.items() if operand.quantizer is None]
        if unseen:
            raise Unsupported(f"{unseen[0]} did not run on the first calibration images, so it has no range")

    @torch.no_grad()
    def reparameterise(self, net: PreparedModel) -> None:
        """Fold per-channel scales s and zero points z: r1 = s / s~, shift = s (z - z~) (equations 15 and 16).

        All readers see the same tensor, so the first one's grid serves them all.
        """
        for norm, readers in self.folded(net):
            quantizer = readers[0].input_operand.quantizer
            assert isinstance(quantizer, Uniform)
            scale, zero = self.centre(quantizer.scale, quantizer.zero_point)
            fold_into_layer_norm(
                norm, readers, scale=quantizer.scale / scale, shift=quantizer.scale * (quantizer.zero_point - zero)
            )
            for reader in readers:
                reader.input_operand.quantizer = Uniform(quantizer.bits, scale, zero)

    def folded(self, net: PreparedModel) -> list[tuple[nn.LayerNorm, tuple[Linear, ...]]]:
        """Return the normalisations that are folded, with their readers: those in blocks that have an attention."""
        pairs = net.norm_readers()
        if self.reductions:
            return pairs
        attending = [block for _, block in net.blocks() if any(isinstance(m, MatMul) for m in block.modules())]
        inside = {module for block in attending for module in block.modules()}
        return [(norm, readers) for norm, readers in pairs if norm in inside]


@torch.no_grad()
def set_weights(net: PreparedModel) -> None:
    """Give every weight a grid per output channel, and switch everything on."""
    for operand in net.weights.values():
        operand.quantizer = affine(operand, net.weight(operand), WEIGHT_PERCENTILES, per_channel=True)
    net.switch(True)


def affine(operand: Operand, x: Tensor, percentiles: tuple[float, ...], *, per_channel: bool) -> Uniform:
    """Return the uniform quantizer over the percentile range with the least squared error."""
    rows = operand.by_channel(x) if per_channel else x.reshape(1, -1)
    scale, zero = least_error_affine(rows, operand.bits, percentiles)
    granularity: Granularity = "channel" if per_channel else "tensor"
    axis = operand.channel_axis if per_channel else None
    return Uniform(operand.bits, scale, zero, axis=axis, granularity=granularity)


def leading(calibration: Calibration, count: int) -> Tensor:
    """Return the first images as one batch: of equal shape, up to `count` and `RANGE_PIXELS`, at least one batch."""
    parts: list[Tensor] = []
    for batch in calibration.batches():
        if not isinstance(batch, Tensor):
            raise Unsupported("reconstruction needs calibration batches that are tensors with the images first")
        if parts:
            pixels = batch.shape[-1] * batch.shape[-2]
            room = min(count, RANGE_PIXELS // pixels) - sum(len(part) for part in parts)
            if batch.shape[1:] != parts[0].shape[1:] or room <= 0:
                break
            batch = batch[:room]
        parts.append(batch[:count])
    return torch.cat(parts)
