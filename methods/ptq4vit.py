"""PTQ4ViT: twin uniform quantizers and a scale search weighted by squared gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import BitSpec, Calibration, Method, Operand, PreparedModel, Quantizer, prepare, run_time
from vitptq.methods.core.model.rotation import Rotation, rotated
from vitptq.methods.core.quantizers.twin_uniform import TwinForm, TwinGelu, TwinSoftmax, negative_step, twin_gelu
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR
from vitptq.methods.core.search.alternating import alternate, at_own_output, operator_slots
from vitptq.methods.core.search.candidates import Candidates, default_grouping, multiples, symmetric
from vitptq.methods.core.search.integer_products import Codes
from vitptq.methods.core.search.recording import (
    MEGABYTE,
    SIDES,
    Operator,
    Side,
    recordings,
    set_on_first_batch,
    sides,
)
from vitptq.methods.core.search.uniform_search import refuse_float_sides
from vitptq.methods.core.sensitivity.fisher import GradientPoint

SPLITS = 20
"""Splits of the softmax output that are tried: 2^0 to 2^-19."""


class Splits(Candidates):
    """The twin grids of the softmax output, one split for all heads."""

    count = SPLITS
    other_in_float = True

    def __init__(self, bits: int, x: Tensor, form: TwinForm) -> None:
        self.x = x
        self.twins = [TwinSoftmax(bits, exponent, form=form).to(x.device) for exponent in range(SPLITS)]

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        """Return x with the splits of `places`."""
        return torch.stack([self.twins[place](x) for place in places.tolist()])

    def quantizer(self, place: Tensor) -> Quantizer:
        """Return the chosen split."""
        return self.twins[int(place)]

    def default(self) -> Quantizer:
        """Return the split of least squared error."""
        errors = torch.stack([(twin(self.x) - self.x).square().mean() for twin in self.twins])
        return self.twins[int(errors.argmin())]


class GeluScales(Candidates):
    """The twin grids of a GELU's output: the positive step is searched, the negative one fixed."""

    def __init__(self, bits: int, x: Tensor, factors: Tensor, *, tie_pow2: bool) -> None:
        self.bits, self.count = bits, len(factors)
        self.start = (x.amax() / (2 ** (bits - 1) - 0.5)).clamp_min(SCALE_FLOOR).reshape(1)
        self.scales = factors * self.start
        if tie_pow2:
            ratio = (self.scales / negative_step(bits)).log2().round()
            self.scales = negative_step(bits) * ratio.exp2()

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        """Return x with the positive steps of `places`."""
        return twin_gelu(x, self.scales[places].reshape(-1, *[1] * x.ndim), self.bits)

    def codes(self, x: Tensor, places: Tensor) -> tuple[Codes, ...]:
        """Return what is above 0, and what is below, which is the same for all."""
        scale, half = self.scales[places][:, None], 2 ** (self.bits - 1)
        above = (x / scale.reshape(-1, *[1] * x.ndim)).round_().clamp_(0, half - 1)
        step = x.new_tensor(negative_step(self.bits))
        below = (x[None] / step).round_().clamp_(-half, 0)
        return Codes(above.to(torch.int8), scale), Codes(below.to(torch.int8), step.reshape(1, 1))

    def quantizer(self, place: Tensor) -> Quantizer:
        """Return the quantizer with the chosen positive step."""
        return TwinGelu(self.bits, self.scales[place])

    def default(self) -> Quantizer:
        """Return the min-max step."""
        return TwinGelu(self.bits, self.start)


@dataclass(frozen=True)
class PTQ4ViT(Method):
    """Symmetric scales by gradient-weighted output error; two ranges each for what leaves a softmax and a GELU.

    Every linear layer, convolution and attention product is calibrated by itself on float inputs. Its output error is
    weighted with G = dL/dO, L being the divergence of the class probabilities from the float model's. 100 multiples of
    the min-max scale are tried for the weight (of a product: for its left factor), then for the input, in 3 rounds; of
    the softmax output 20 splits.
    """

    name = "ptq4vit"
    title = "PTQ4ViT"
    fidelity = "paper"
    parity: ClassVar[Mapping[str, Any]] = {"form": "released"}
    parity_test = "tests/parity/test_ptq4vit.py"
    inferred = (
        "G is taken with every operator at its min-max scale: at the float point, where the released code takes it, "
        'the divergence is at its minimum and G is rounding noise (gradient_point="float" gives that form)',
        'the two softmax ranges exclude each other (the released code adds them; twin="sum" gives that form)',
        "an operator whose G vanishes is scored by the plain squared error",
        "other activations than GELU (SiLU in MobileViT) get the symmetric grid",
        'the image enters the patch embedding at 8 bits (in the released code, and with form="released", in float)',
        'form="released" beside the official code, tests/parity/test_ptq4vit.py, given equal gradients: what each of '
        "the candidates loses agrees to 5e-5 at 8 and 4 bits, the chosen scales and splits to 1e-6, by the cosine "
        "distance up to candidates that only float32 tells apart; on mini_vit_outlier at W6A6 the accuracy differed "
        "by -0.40 points [-1.13, +0.33], because the official gradients are rounding noise (rms 5e-12 to 1e-9)",
        "not compared with the official code: Swin, ImageNet",
    )
    paper = "Yuan et al., PTQ4ViT, ECCV 2022, arXiv 2111.12293"

    form: Literal["paper", "released"] = "paper"
    """"released" is what the authors' code does: twin="sum", gradient_point="float" and the image in float."""
    alpha: float = 0.01
    beta: float = 1.2
    candidates: int = 100
    rounds: int = 3
    twin: TwinForm = "exclusive"
    twin_softmax: bool = True
    twin_gelu: bool = True
    tie_pow2: bool = False
    """Make the two steps after GELU differ by a power of two."""
    gradient_point: GradientPoint = "quantised"
    """"sampled" draws the label from the float probabilities, which gives the true diagonal Fisher information."""
    rotation: Rotation = "none"
    """Rotate the float model first."""
    memory_mb: int = run_time(1024)
    """What the operators that are recorded together may take, and the candidates of one step; more makes the search
    faster, not different: gradients are computed once for all that are recorded together."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the scales of least weighted error."""
        net = prepare(rotated(model, self.rotation, calibration.seed), bits)
        refuse_float_sides(net, self.title)  # the twin grids of a float tensor would have 2^32 values
        self._set_defaults(net, calibration)
        chosen: dict[Operand, Quantizer] = {}
        memory = self.memory_mb * MEGABYTE
        point: GradientPoint = "float" if self._released else self.gradient_point
        for name, operator, parts in recordings(net, calibration, memory, gradient_point=point):
            slots = operator_slots(operator, parts, partial(self._families, net, name))
            chosen |= alternate(slots, at_own_output(parts, slots, memory), self.rounds)
        for operand, quantizer in chosen.items():
            operand.quantizer = quantizer
        return net.switch(True, image=not self._released)

    @property
    def _released(self) -> bool:
        return self.form == "released"

    def _set_defaults(self, net: PreparedModel, calibration: Calibration) -> None:
        """Set every operand to its min-max scale on the first batch: the point at which G may be taken."""
        set_on_first_batch(net, calibration, lambda *slot: self._families(net, *slot)[0].default())

    def _families(
        self, net: PreparedModel, name: str, operator: Operator, side: Side, x: Tensor
    ) -> Sequence[Candidates]:
        """Return what the slot of one side may become."""
        slot = sides(operator)[SIDES.index(side)]
        factors = multiples(self.alpha, self.beta, self.candidates, x.device)
        if slot.role == "softmax" and self.twin_softmax:
            return [Splits(slot.bits, x, "sum" if self._released else self.twin)]
        if slot.role == "gelu" and self.twin_gelu:
            return [GeluScales(slot.bits, x, factors, tie_pow2=self.tie_pow2)]
        scales = symmetric(default_grouping(net, name, operator, side, x), x, slot.bits, factors)
        scales.other_in_float = self._released and sides(operator)[1].role == "stem_input"
        return [scales]
