"""AdaLog: logarithmic grids with a searched base behind softmax and GELU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq import BitSpec, Calibration, Linear, MatMul, PreparedModel, RoundingMethod, percentile, prepare
from vitptq.methods.core.model.operands import Layer
from vitptq.methods.core.model.rotation import Rotation, rotated
from vitptq.methods.core.quantizers.adaptive_log import BASES, GELU_DEPTH, AdaptiveLog, Gradient, fold_shift, on_grids
from vitptq.methods.core.quantizers.log import ZeroCode
from vitptq.methods.core.ranges.estimation import some_values
from vitptq.methods.core.reconstruct import Loss, StepTensors, Unit, all_units, divergence, reconstruct
from vitptq.methods.core.search.fpcs import Error, FPCSBudget, Grids, fpcs
from vitptq.methods.core.search.grid_errors import GridKind, input_error, side_error, weight_error
from vitptq.methods.core.search.recording import FirstImages, Inputs, Operator, recorded_inputs
from vitptq.methods.core.search.stem_search import search_stem
from vitptq.methods.core.search.uniform_search import (
    UniformSearch,
    fold_norms,
    refuse_float_sides,
    search_layer,
    search_product,
)

CEILINGS, KEPT_BASES, LOG_SURVIVORS = 16, 8, 32
TOKEN_DIVISOR = 10.0


@dataclass(frozen=True)
class AdaLog(RoundingMethod):
    """Base and ceiling of logarithmic grids are searched per tensor; everything else is uniform, searched the same way.

    1. Per-channel grids behind LayerNorm are folded into it and the layer behind.
    2. Operator by operator, in float otherwise, by the error of its output: softmax output and GELU output (shifted to
       be positive) on the grid S 2^(-c q / 37), with q and S searched; attention factors per head and linear inputs per
       tensor on uniform grids, weights per row. Coarse candidates first, then finer ones around the best.
    3. With `reconstruct`, blocks learn how to round their weights and the scales of their activations.
    4. The shift behind GELU moves into the bias.
    """

    name = "adalog"
    title = "AdaLog"
    fidelity = "paper"
    parity_test = "tests/parity/test_adalog.py"
    inferred = (
        "the last logarithmic code decodes to 0, which keeps 2^b values (the released code has 0 as one value more; "
        'zero_code="extra" gives that form)',
        "zero points are searched around that of the range (released code: around the middle code, which loses codes "
        "of one-sided tensors from 6 bits on); a tensor without negative values has the zero point 0",
        "the survivors of a search step stay candidates of the next (in the released code they do not)",
        "LayerNorms are folded at every bit spec (released code: only where weights and activations have equal bits)",
        "attention factors and the folded inputs start from the grids of least squared error",
        "output errors are computed on up to 16,384 evenly spread rows of a linear layer's input",
        "convolutions: weights and input by their own squared error; the image enters at 8 bits, not in float",
        'gradient="table" trains through the grid as it is evaluated, and the ceiling as LSQ does; the released code '
        "trains through the logarithm, without the table (gradient=log); on mini_vit and mini_vit_outlier at W3A3 "
        "five draws of 60 steps did not separate them (+0.31 +- 0.56 and +0.20 +- 0.52 points for the logarithm)",
        "the released code trains the scale behind the softmax, too; through the logarithm its gradient is 0 but for "
        "rounding, as no probability lies above it",
        "mini-batches are drawn without replacement; a unit whose error on the calibration set grew keeps its state "
        'before training (not with form="released")',
        'form="released": zero_code="extra", gradient="log", the image in float, the patch embedding searched by the '
        "error of its output, LayerNorms folded at equal widths alone and the inputs behind them searched anew; the "
        "searches' candidates stay as above",
        "beside the official code, tests/parity/test_adalog.py: tables and grids, values and gradients of the "
        "training through the logarithm and the losses of all bases agree to 1e-5 (losses 1e-4); searches, which "
        "start elsewhere, end at no more than 1.005 of the official error at 6, 4 and 3 bits, and in mini_vit at W4A4 "
        "at the official base behind the GELU and uniform scales within 1 %; not compared: the trained model, Swin",
    )
    paper = "Wu et al., AdaLog, ECCV 2024, arXiv 2407.12951"
    trial: ClassVar = {"iterations": 4, "rounds": 1, "candidates": 32, "steps": 2}

    form: Literal["paper", "released"] = "paper"
    """"released" is the training and the grids of the authors' code; see `inferred` for what it takes with it."""
    reconstruct: bool = True
    """Train the rounding of the weights and the activations' scales after the search."""
    search_images: int = 32
    rounds: int = 3
    candidates: int = 128
    survivors: int = 16
    steps: int = 6
    """Steps of the progressive search; 1 is a plain grid search."""
    zero_code: ZeroCode = "last"
    gradient: Gradient = "table"
    """What units are trained through: "table", the grid as it is evaluated, straight-through as a whole, the ceiling's
    gradient as LSQ's; "log", the powers without the table, straight-through for the rounding of the logarithm alone, as
    in the released code."""
    scale_rate: float = 4e-5
    rotation: Rotation = "none"
    """Rotate the float model first."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the quantised model."""
        model = rotated(model, self.rotation, calibration.seed)
        net = prepare(model, bits)
        self.search(net, FirstImages(calibration, self.search_images))
        net.switch(True, image=not self._released)
        if self.reconstruct:
            settings = replace(
                self.reconstruction(calibration), scale_rate=self.scale_rate, input="float",
                quantised_probability=1.0, keep_better=not self._released,
            )  # fmt: skip
            reconstruct(net, prepare(model, bits), calibration, settings, loss=token_error, units=all_units(net))
        for layer in shifted_layers(net):
            fold_shift(layer)
        return net.model

    def search(self, net: PreparedModel, calibration: Calibration) -> None:
        """Fold the LayerNorms and give every slot its quantizer."""
        refuse_float_sides(net, "AdaLog")
        budget = FPCSBudget(self.candidates, self.survivors, self.steps)
        if not self._released or net.bits.weights == net.bits.activations:
            fold_norms(net, calibration, budget)
        for _, operator, inputs in recorded_inputs(net, calibration):
            self._search_one(operator, inputs, budget)
        if self._released:
            search_stem(net, calibration, budget)

    @torch.no_grad()
    def _search_one(self, operator: Operator, inputs: Inputs, budget: FPCSBudget) -> None:
        released = self._released
        logs = _LogSearch(
            budget, self.rounds, "extra" if released else self.zero_code, "log" if released else self.gradient
        )
        if isinstance(operator, MatMul):
            if operator.left_operand.role == "softmax":
                logs.product(operator, inputs)
            else:
                search_product(operator, inputs, budget, self.rounds)
        elif operator.input_operand.role in ("gelu", "softmax"):
            logs.layer(operator, inputs, shift=GELU_DEPTH if operator.input_operand.role == "gelu" else 0.0)
        else:
            search_layer(operator, inputs, budget, self.rounds, keep_folded=not released)

    @property
    def _released(self) -> bool:
        return self.form == "released"

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than the paper's."""
        return super().notes() if self.reconstruct else []


class _LogSearch:
    """The searches over base and ceiling."""

    def __init__(
        self, budget: FPCSBudget, rounds: int, zero_code: ZeroCode = "last", gradient: Gradient = "table"
    ) -> None:
        self.budget, self.rounds, self.zero_code, self.gradient = budget, rounds, zero_code, gradient

    def product(self, product: MatMul, inputs: Inputs) -> None:
        """Probabilities times values: the base of the left side (ceiling 1), by turns with the right side per head."""
        slot = product.left_operand
        q = bases(inputs.first[0])
        right = UniformSearch.of_side(product, inputs, self.budget, left=False)
        right.own()
        error = side_error(product, inputs, left=True, kind=self._kind(slot.bits, 0.0))
        ones = torch.ones_like(q)
        for _ in range(self.rounds):
            best = error(ones[None], q[None], wanted=1).argmin()
            slot.quantizer = self._grid(slot.bits, ones[best], q[best], 0.0)
            right.best(side_error(product, inputs, left=False))

    def layer(self, layer: Layer, inputs: Inputs, shift: float) -> None:
        """A layer behind a GELU or a softmax: base and ceiling, by turns with the weight."""
        (values,) = inputs.second
        slot = layer.input_operand
        weight = UniformSearch.of_weight(layer, self.budget)
        weight.own()
        ceilings = ceiling_candidates(values, shift, 128) if shift else torch.ones(2, device=values.device)
        ceiling = ceilings[-2]
        rounds = self.rounds if isinstance(layer, Linear) else 1
        for _ in range(rounds):
            kind = self._kind(slot.bits, shift)
            error = input_error(layer, values, kind) if isinstance(layer, Linear) else _own_error(values, kind)
            ceiling, q = self._base_and_ceiling(values, ceiling, shift, error)
            slot.quantizer = self._grid(slot.bits, ceiling, q, shift)
            if isinstance(layer, Linear):
                weight.best(weight_error(layer, values))

    def _base_and_ceiling(self, values: Tensor, ceiling: Tensor, shift: float, error: Error) -> tuple[Tensor, Tensor]:
        """Return S and q of least error: q at the S so far, the best of them with more S, then finer S."""
        q = bases(values)
        errors = error(ceiling.expand_as(q)[None], q[None], wanted=KEPT_BASES)[0]
        kept = q[errors.argsort(stable=True)[:KEPT_BASES]]
        if not shift:
            return ceiling, kept[0]
        more = ceiling_candidates(values, shift, CEILINGS)
        step = (more[-1] - more[0]) / (CEILINGS - 1)
        pairs = torch.cartesian_prod(more, kept)
        pairs = torch.cat([pairs, torch.stack([ceiling, kept[0]])[None]])
        budget = FPCSBudget(self.budget.candidates, LOG_SURVIVORS, self.budget.steps)
        found = fpcs(Grids(pairs[None, :, 0], pairs[None, :, 1], step[None]), error, budget)
        return found[0][0], found[1][0]

    def _grid(self, bits: int, ceiling: Tensor, q: Tensor, shift: float) -> AdaptiveLog:
        return AdaptiveLog(bits, ceiling, q, shift=shift, zero_code=self.zero_code, gradient=self.gradient)

    def _kind(self, bits: int, shift: float) -> GridKind:
        return partial(on_grids, bits=bits, shift=shift, zero_code=self.zero_code)


def bases(like: Tensor) -> Tensor:
    """Return all candidates of q."""
    return torch.arange(*BASES, device=like.device, dtype=like.dtype)


def ceiling_candidates(values: Tensor, shift: float, count: int) -> Tensor:
    """Return `count` ceilings, from the 0.9-quantile of the positive values to their maximum, plus the shift."""
    positive = values[values > 0].reshape(1, -1)
    if not positive.numel():
        positive = values.new_full((1, 1), shift)
    positive = some_values(positive)
    low, high = percentile(positive, 0.9)[1], positive.amax()
    way = torch.linspace(0, 1, count, device=values.device, dtype=values.dtype)
    return low + (high - low) * way + shift


def _own_error(values: Tensor, kind: GridKind) -> Error:
    """Return the squared error of the values themselves, for convolutions."""
    grids = kind(values)

    def error(scale: Tensor, zero: Tensor, wanted: int | None = None) -> Tensor:
        pairs = zip(scale[0], zero[0], strict=True)
        return torch.stack([(grids(ceiling, q) - values).square().mean() for ceiling, q in pairs])[None]

    return error


def shifted_layers(net: PreparedModel) -> list[Linear]:
    """Return the linear layers whose input is shifted; a convolution's zero padding would miss the shift."""
    layers = [module for module in net.model.modules() if isinstance(module, Linear)]
    quantizers = [layer.input_operand.quantizer for layer in layers]
    return [x for x, q in zip(layers, quantizers, strict=True) if isinstance(q, AdaptiveLog) and q.shift]


def token_error(unit: Unit) -> Loss:
    """Sum of d^2 over the tokens (axis 1), mean over images and channels, by ten; of logits the divergence."""
    if unit.final:
        return divergence(unit)

    def loss(seen: StepTensors) -> Tensor:
        pairs = zip(seen.outputs, seen.targets, strict=True)
        return torch.stack([(out - target).square().sum(1).mean() for out, target in pairs]).sum() / TOKEN_DIVISOR

    return loss
