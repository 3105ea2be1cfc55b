"""FQ-ViT: all that a ViT stores is quantised, and LayerNorm and softmax run on integers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import (
    BitSpec,
    Calibration,
    Method,
    Operand,
    RunningMinMax,
    Uniform,
    Unsupported,
    observe_weights,
    watching,
)
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.model.full_model import FullModel, NormPlace
from vitptq.methods.core.model.prepare import prepare_in_full
from vitptq.methods.core.quantizers.integer import IntegerLayerNorm, IntegerSoftmax
from vitptq.methods.core.quantizers.rounded_code import RoundedCode
from vitptq.methods.core.ranges.estimation import asymmetric_parameters
from vitptq.methods.core.ranges.integer import FACTORS, SOFTMAX_BITS, power_of_two_factors
from vitptq.methods.core.ranges.observers import with_last

UNIFORM_SOFTMAX_BITS = 8
"""The released code's probabilities without log-int-softmax, whatever the bit spec."""


@dataclass(frozen=True)
class FQViT(Method):
    """Min-max ranges of all that is stored between layers, with integer LayerNorm and integer softmax.

    1. Weights: symmetric min-max per output channel. Activations: asymmetric min-max per tensor; queries, keys and
       values share one grid, and so do all channels of what a layer puts out.
    2. The residual stream, which the LayerNorms read, gets one base scale and, per channel, one of four power-of-two
       factors (of least squared error on the last batch), so that LayerNorm can be computed on integers.
    3. Softmax is a polynomial on integers; its output is a power of two, 2^-code with a 4-bit code.

    `form`: "paper", or "released" for what the authors' code does otherwise: 0 as a 17th value behind softmax (which
    the audit reports), no epsilon in LayerNorm, zero points clamped in place of ranges that hold 0, and its rounding.
    """

    name = "fq-vit"
    title = "FQ-ViT"
    fidelity = "paper"
    parity: ClassVar[Mapping[str, Any]] = {"form": "released"}
    parity_test = "tests/parity/test_fq_vit.py"
    inferred = (
        "form=released beside the official code (mini_vit, one batch of 32 images): scales and zero points of stem, "
        "one block and head agree to 1e-6 at W8A8 and W4A4; the logits lie as near as the official code to itself with "
        "other matrix kernels (0.09 and 0.3 of the largest), and without the integer parts those of 31 of 32 images at "
        "W4A4 agree to 1e-5; what is left lies next to the middle of two codes",
        "not compared with the official code: Swin, several calibration batches, ImageNet",
        "form=paper: the last softmax code keeps its value 2^-15, LayerNorm's epsilon is kept, ranges hold 0",
        "below 8 bits, which the paper does not define, everything has the nominal width but image and scores (8 bits)",
        "without log-int-softmax the probabilities have the nominal width (released: 8 bits, which the audit reports "
        "at fewer)",
    )
    paper = "Lin et al., FQ-ViT, IJCAI 2022, arXiv 2111.13824"

    integer_norm: bool = True
    integer_softmax: bool = True
    """Log-int-softmax ("8/8/4" in the paper); without it the output is uniform ("8/8/8")."""
    form: Literal["paper", "released"] = "paper"

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with every tensor between layers quantised, and integer LayerNorm and softmax."""
        if bits.activations == FLOAT_BITS:
            raise Unsupported(f"{bits} leaves activations in float: {self.name} quantises all of them, as in W8A8")
        net, full = prepare_in_full(model, bits)
        observe_weights(net, symmetric=True)
        ranges = _Ranges(full, self)
        for batch, last in with_last(calibration.batches()):
            see = ranges.set_quantizer if last else ranges.see
            with watching(ranges.slots, see):
                calibration.forward(net.model, batch)
        if self.integer_norm:
            for place in full.norms():
                self._replace(full, place, ranges.factors.get(place.before))
        return net.switch(True)

    def notes(self) -> list[str]:
        """Return what is quantised besides the operands of products."""
        return [
            "fully quantised: besides the operands of products also embeddings, positions, residual sums, outputs of "
            "attention and MLP, and logits at the activations' width, scores at 8 bits"
        ]

    def _replace(self, full: FullModel, place: NormPlace, factors: Tensor | None) -> None:
        """Put the integer form in the place of a LayerNorm; input that shares one scale has the largest factor."""
        norm = full.get_submodule(place.norm)
        before, after = place.before.quantizer, place.after.quantizer
        assert isinstance(before, Uniform) and isinstance(after, Uniform) and isinstance(norm, nn.LayerNorm)
        shared = torch.full(norm.normalized_shape, FACTORS - 1, device=before.scale.device)
        found = shared if factors is None else factors.repeat(place.copies)
        base = before.scale[:1] * 8 / (found[0].exp2())
        parent, _, name = place.norm.rpartition(".")
        eps = 0.0 if self.form == "released" else None
        integer = IntegerLayerNorm(norm, base, before.zero_point[:1], found, after.scale, before.bits, eps=eps)
        setattr(full.get_submodule(parent), name, integer.eval())


class _Ranges:
    """Sees the calibration set pass through a model in full form, and sets the quantizers in the last batch.

    They stay off, but for log-int-softmax: it takes over as soon as the scores have a scale, so what lies behind it
    gets ranges that hold what it puts out.
    """

    def __init__(self, full: FullModel, method: FQViT) -> None:
        self.released = method.form == "released"
        skipped = {"weight", "query", "key", "value"} | ({"softmax"} if method.integer_softmax else set())
        found = {slot.name: slot for slot in full.modules() if isinstance(slot, Operand)}
        self.slots = {name: slot for name, slot in found.items() if slot.role not in skipped}
        self.factors: dict[Operand, Tensor] = {}
        self._seen = {slot: RunningMinMax() for slot in self.slots.values()}
        self._stream = set(full.stream()) if method.integer_norm else set()
        self._attentions = {part.scores: part for part in full.attentions()} if method.integer_softmax else {}

    def see(self, slot: Operand, x: Tensor) -> None:
        """Widen the range of a slot."""
        self._seen[slot].see(x.reshape(1, -1), bits=slot.bits, last=False)

    def set_quantizer(self, slot: Operand, x: Tensor) -> None:
        """Widen the range of a slot with the last batch, and give it its quantizer."""
        self.see(slot, x)
        if self.released and slot.role == "softmax":
            slot.bits = UNIFORM_SOFTMAX_BITS
        low, high = self._seen[slot].range()
        scale, zero = asymmetric_parameters(low, high, slot.bits, holds_zero=not self.released)
        kind = RoundedCode if self.released else Uniform
        if slot in self._stream:
            self.factors[slot] = power_of_two_factors(slot.by_channel(x), scale, zero, slot.bits)
            scales = scale / 8 * self.factors[slot].exp2()  # (C,)
            slot.quantizer = kind(slot.bits, scales, zero.expand_as(scales), axis=-1, granularity="channel")
        else:
            slot.quantizer = kind(slot.bits, scale, zero)
        if slot in self._attentions:
            attention = self._attentions[slot]
            bits = min(SOFTMAX_BITS, attention.qkv_out.bits)
            attention.softmax = IntegerSoftmax(bits, scale, zero=self.released, exact=not self.released)
