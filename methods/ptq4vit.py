"""PTQ4ViT: twin uniform quantizers and a scale search weighted by squared gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method, run_time
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.twin_uniform import TwinForm, TwinGelu, TwinSoftmax, negative_step, twin_gelu
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR
from vitptq.methods.core.search.alternating import Options, Scales, alternate
from vitptq.methods.core.search.candidate_losses import Candidates
from vitptq.methods.core.search.objective import SquaredError
from vitptq.methods.core.search.recording import (
    SIDES,
    Operator,
    Rows,
    Side,
    Trace,
    in_batches,
    on_first_batch,
    operators,
    record_all,
    sides,
)
from vitptq.methods.core.search.side_search import MEGABYTE, grouping, multiples
from vitptq.methods.core.sensitivity.fisher import GradientPoint, normalised, output_gradients

SPLITS = 20
"""Splits of the softmax output that are tried: 2^0 to 2^-19."""


class Splits(Options):
    """The twin grids of the softmax output, one split for all heads."""

    alone = True

    def __init__(self, bits: int, x: Tensor, form: TwinForm) -> None:
        super().__init__(bits, SPLITS)
        self.x = x
        self.twins = [TwinSoftmax(bits, exponent, form=form).to(x.device) for exponent in range(SPLITS)]

    def candidates(self) -> Candidates:
        """Return the twin grids."""
        return lambda x, places: torch.stack([self.twins[place](x) for place in places.tolist()])

    def quantizer(self, choice: Tensor) -> Quantizer:
        """Return the chosen split."""
        return self.twins[int(choice)]

    def default(self) -> Quantizer:
        """Return the split of least squared error."""
        errors = torch.stack([(twin(self.x) - self.x).square().mean() for twin in self.twins])
        return self.twins[int(errors.argmin())]


class GeluScales(Options):
    """The twin grids of a GELU's output: the positive step is searched, the negative one fixed."""

    def __init__(self, bits: int, x: Tensor, alpha: float, beta: float, count: int, *, tie_pow2: bool) -> None:
        super().__init__(bits, count)
        self.start = (x.amax() / (2 ** (bits - 1) - 0.5)).clamp_min(SCALE_FLOOR).reshape(1)
        scales = multiples(self.start, alpha, beta, count)[:, 0]
        if tie_pow2:
            ratio = (scales / negative_step(bits)).log2().round()
            scales = negative_step(bits) * ratio.exp2()
        self.scales = scales

    def candidates(self) -> Candidates:
        """Return the twin grids."""

        def quantised(x: Tensor, places: Tensor) -> Tensor:
            return twin_gelu(x, self.scales[places].reshape(-1, *[1] * x.ndim), self.bits)

        return quantised

    def quantizer(self, choice: Tensor) -> Quantizer:
        """Return the quantizer with the chosen positive step."""
        return TwinGelu(self.bits, self.scales[choice])

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
    inferred = (
        "G is taken with every operator at its min-max scale: at the float point, where the released code takes it, "
        'the divergence is at its minimum and G is rounding noise (gradient_point="float" gives that form)',
        'the two softmax ranges exclude each other (the released code adds them; twin="sum" gives that form)',
        "an operator whose G vanishes is scored by the plain squared error",
        "other activations than GELU (SiLU in MobileViT) get the symmetric grid",
        "the image enters the patch embedding at 8 bits (in the released code in float)",
        "not compared with the official code yet",
    )
    paper = "Yuan et al., PTQ4ViT, ECCV 2022, arXiv 2111.12293"

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
    memory_mb: int = run_time(256)
    """What the candidates of one step may take; more makes the search faster, not different."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with the scales of least weighted error."""
        net = prepare(model, bits)
        found = operators(net, calibration)
        self._defaults(net, calibration, found)
        chosen: dict[Operand, Quantizer] = {}
        for names in in_batches(net, calibration, found, self.memory_mb * MEGABYTE):
            some = [found[name] for name in names]
            gradients = output_gradients(net, calibration, some, self.gradient_point)
            for name, trace, gradient in zip(names, record_all(net, calibration, some), gradients, strict=True):
                chosen |= self._search(net, name, replace(trace, gradient=normalised(gradient)))
        for operand, quantizer in chosen.items():
            operand.quantizer = quantizer
        return net.switch(True)

    def _defaults(self, net: PreparedModel, calibration: Calibration, found: dict[str, Operator]) -> None:
        """Set every operand to its min-max scale on the first batch: the point at which G may be taken."""
        on_first_batch(net, calibration, found, lambda *slot: self._options(net, *slot).default())

    def _options(self, net: PreparedModel, name: str, operator: Operator, side: Side, x: Tensor) -> Options:
        slot = sides(operator)[SIDES.index(side)]
        if slot.role == "softmax" and self.twin_softmax:
            return Splits(slot.bits, x, self.twin)
        if slot.role == "gelu" and self.twin_gelu:
            return GeluScales(slot.bits, x, self.alpha, self.beta, self.candidates, tie_pow2=self.tie_pow2)
        group = grouping(net, name, operator, side, x)
        return Scales(slot.bits, group, x, self.alpha, self.beta, self.candidates)

    @torch.no_grad()
    def _search(self, net: PreparedModel, name: str, trace: Trace) -> dict[Operand, Quantizer]:
        """Return the quantizers of both slots, searched in turn (specification, section 4, step 3)."""
        operator, tensors = trace.operator, (trace.first, trace.second)
        assert not isinstance(operator, Rows)
        options = [self._options(net, name, operator, s, x) for s, x in zip(SIDES, tensors, strict=True)]

        def objective(i: int) -> SquaredError:
            groups, by_head = options[i].groups()
            return SquaredError(groups, by_head)

        found = alternate(trace, options, objective, self.rounds, self.memory_mb * MEGABYTE)
        return dict(zip(sides(operator), found, strict=True))
