"""Channel factors and grids of attention blocks, layer by layer, by the error of the whole block's output.

The search of UQ-ViT (jiujiuwei/UQ-ViT at 3d7d4bb2), which extends RepQ-ViT (arXiv 2212.08254).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.reporting import note_table, report
from vitptq.methods.core.model.divided_linear import divide_input
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Linear, Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.snapshot import Snapshot
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.mixed_scales import divisors, fold_factors
from vitptq.methods.core.ranges.percentile_error import least_error_affine
from vitptq.methods.core.search.behind_prefix import BehindPrefix
from vitptq.methods.core.search.block_steps import Step, attention_blocks, steps_of
from vitptq.methods.core.search.module_run import squared_error
from vitptq.methods.core.search.recording import images_of

Probabilities = Callable[[Operand, BehindPrefix], Quantizer]
"""(the slot of attention probabilities, its block as it is quantised so far) to a quantizer."""


@dataclass(frozen=True)
class ChannelSearch:
    """What is tried. Ranges are those percentiles of least squared error."""

    percentiles: tuple[float, ...]
    alphas: tuple[float, ...]
    """Of `fold_factors`, behind LayerNorms; none leaves them as they are."""
    divisor_alphas: tuple[float, ...]
    """Of `divisors`, in front of other linear layers, beside no divisors."""
    gelu_images: int
    """Fewest calibration images with which inputs behind a GELU are divided."""
    probabilities: Probabilities

    @torch.no_grad()
    def run(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration) -> None:
        """Set every slot of `net`, which is changed in place; `twin` is the float model and shares nothing with it.

        In each block the layers come in order; those that are done stay quantised, those behind are in float. Layers
        outside the blocks get ranges from the first tensor that reaches them behind quantised ones.
        """
        images = sum(images_of(batch) for batch in calibration.batches())
        blocks = attention_blocks(net)
        inside = tuple(f"{name}." for name in blocks)
        rest = {name: slot for name, slot in net.operands.items() if not name.startswith(inside)}
        found = []
        with watching(rest, self._set_at_first):
            for number, name in enumerate(blocks):
                report("blocks", number, len(blocks))
                block = BehindPrefix(net, twin, calibration, name)
                found += [self._searched(block, step, images) for step in steps_of(net, block)]
            calibration.forward(net.model, next(iter(calibration.batches())))
        note_table("factors of channels", found, "alpha of least squared error of the block's output; –: no factors.")

    def _searched(self, block: BehindPrefix, step: Step, images: int) -> dict[str, str | float | None]:
        """Give a step the factors and grids of least error, and say which."""
        before = Snapshot(step.modules)
        channels = next(iter(block.read(step.inputs[:1]).values()), None)
        errors = {}
        for alpha in self._candidates(step, images):
            self._apply(block, step, channels, alpha)
            errors[alpha] = float(block.loss(squared_error))
            before.restore()
            _switch(step, on=False)
        best = min(errors, key=lambda alpha: errors[alpha])
        self._apply(block, step, channels, best)
        for slot in step.probabilities:
            slot.quantizer, slot.on = self.probabilities(slot, block), True
        return {"layer": step.name, "alpha": best, "error": errors[best], "largest error": max(errors.values())}

    def _candidates(self, step: Step, images: int) -> Sequence[float | None]:
        if step.norm is not None:
            return self.alphas or (None,)
        linear = all(isinstance(layer, Linear) for layer in step.layers)
        few = images < self.gelu_images and any(slot.role == "gelu" for slot in step.inputs)
        return (None, *self.divisor_alphas) if linear and not few else (None,)

    def _apply(self, block: BehindPrefix, step: Step, channels: Tensor | None, alpha: float | None) -> None:
        """Bring a step into the form that alpha gives, with new grids for all but its probabilities."""
        if alpha is not None and channels is not None:
            self._transform(step, channels, alpha)
        for layer in step.layers:
            layer.weight_operand.quantizer = self._grid(layer.weight_operand, layer.weight)
        for slots in (step.inputs, step.sides):
            for slot, seen in block.read(slots).items():
                slot.quantizer = self._grid(slot, seen)
            _switch(step, on=True)

    def _transform(self, step: Step, channels: Tensor, alpha: float) -> None:
        layers = [layer for layer in step.layers if isinstance(layer, Linear)]
        weight = torch.cat([layer.weight for layer in layers])
        bits = (layers[0].input_operand.bits, layers[0].weight_operand.bits)
        if step.norm is not None:
            factors, shift = fold_factors(channels, weight, bits, alpha, self.percentiles)
            fold_into_layer_norm(step.norm, layers, scale=factors, shift=shift)
        else:
            for layer in layers:
                divide_input(layer, divisors(channels, weight, bits, alpha, self.percentiles))

    def _grid(self, slot: Operand, x: Tensor) -> Uniform:
        """Return the percentile range of least squared error: per output channel of a weight, else per tensor."""
        weight = slot.role == "weight"
        rows = slot.by_channel(x) if weight else x.reshape(1, -1)
        axis = slot.channel_axis if weight else None
        scale, zero = least_error_affine(rows, slot.bits, self.percentiles)
        return Uniform(slot.bits, scale, zero, axis=axis, granularity="channel" if weight else "tensor")

    def _set_at_first(self, slot: Operand, x: Tensor) -> None:
        """Give a slot outside the blocks a grid from the first tensor that reaches it, behind quantised ones."""
        if slot.quantizer is None:
            slot.quantizer, slot.on = self._grid(slot, x), True


def _switch(step: Step, *, on: bool) -> None:
    """Let the slots of a step quantise that have a grid, or give all of them up."""
    for slot in [*step.inputs, *(layer.weight_operand for layer in step.layers), *step.sides]:
        slot.on = on and slot.quantizer is not None
        slot.quantizer = slot.quantizer if on else None
