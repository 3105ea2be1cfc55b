"""NoisyQuant: a fixed noise in front of the grid, taken away in the bias."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitptq import (
    BitSpec,
    Calibration,
    Linear,
    Method,
    Operand,
    PreparedModel,
    Quantizer,
    Uniform,
    Unsupported,
    least_error_range,
    prepare,
    report,
    uniform,
    watching,
)
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.quantizers.noisy import Noisy, symmetric
from vitptq.methods.core.ranges.estimation import evenly_spread, some_values

Noise = Literal["uniform", "gaussian", "none"]


@dataclass(frozen=True)
class NoisyQuant(Method):
    """A constant vector n is added to what a linear layer reads: y = W (Q(x + n) - n) + c, with W n in the bias.

    Layer by layer, on what the quantised layers before give for the first batch, by the error of the layer's output:
    1. the clipping value of a symmetric grid per tensor, among fractions of the largest value; s is its step;
    2. the mean of n, between -s and s;
    3. how much of a random vector is added to the mean. Weights: symmetric per row. Nothing is trained.
    """

    name = "noisyquant"
    title = "NoisyQuant"
    fidelity = "inferred"
    inferred = (
        "the three searches are those of the released code; the paper's body was not read",
        'the noise is uniform in [-s, s], as the paper is reported to have it (released: Gaussian, noise="gaussian")',
        "the noise of a layer is searched for as soon as its clipping value is known (released: in a second pass)",
        "the searches look at up to 1,024 tokens of the first batch, evenly spread (released: at all)",
        "attention products and inputs of convolutions get asymmetric grids per tensor of least squared error, and the "
        'head is quantised, too (released: all in float; scope="block linears" does that, and leaves a Swin\'s patch '
        "merging in float, too)",
        "not compared with the official code",
    )
    paper = "Liu et al., NoisyQuant, CVPR 2023, arXiv 2211.16056"
    trial: ClassVar = {"clips": 10, "means": 5, "shares": 5, "tokens": 64}

    noise: Noise = "uniform"
    """What the random vector is drawn from; "none" leaves the mean alone, a zero point found by search: the control."""
    scope: Literal["all", "block linears"] = "all"
    """"block linears" quantises the linear layers of the blocks alone, and no attention product; the audit lists it."""
    clips: int = 1000
    means: int = 200
    """Candidates on either side of 0."""
    shares: int = 1000
    """Candidates from 0 to 1; as many go on to 2."""
    tokens: int = 1024

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with noise in front of its linear layers' inputs."""
        if bits.activations == FLOAT_BITS:
            raise Unsupported(
                f"NoisyQuant is about activations, and {bits} leaves them in float; give for example W6A6"
            )
        net = self._in_scope(prepare(model, bits))
        layers = {id(layer.input_operand): layer for layer in net.layers.values() if isinstance(layer, Linear)}
        generator = torch.Generator().manual_seed(calibration.seed)
        slots = {name: operand for name, operand in net.activations.items() if operand.bits != FLOAT_BITS}
        _symmetric_weights(net)

        def watch(operand: Operand, x: Tensor) -> None:
            if operand.quantizer is None:
                report("operands", sum(slot.quantizer is not None for slot in slots.values()), len(slots))
                layer = layers.get(id(operand))
                operand.quantizer = _least_error(x, operand.bits) if layer is None else self._noisy(layer, x, generator)

        net.switch(True)
        with watching(slots, watch):
            calibration.forward(net.model, next(iter(calibration.batches())))
        unseen = [name for name, operand in slots.items() if operand.quantizer is None]
        if unseen:
            raise Unsupported(f"{unseen[0]} did not run on the first calibration batch, so it has no range")
        return net.model

    def _in_scope(self, net: PreparedModel) -> PreparedModel:
        """Return the same model, with the operands to be quantised alone in reach."""
        if self.scope == "all":
            return net
        blocks = tuple(f"{name}." for name, _ in net.blocks())
        linear = tuple(f"{name}." for name, module in net.model.named_modules() if isinstance(module, Linear))
        kept = {n: slot for n, slot in net.operands.items() if n.startswith(blocks) and n.startswith(linear)}
        return replace(net, operands=kept)

    def _noisy(self, layer: Linear, x: Tensor, generator: torch.Generator) -> Quantizer:
        """Return the quantizer of a layer's input, and move the noise into the layer's bias."""
        rows = x.reshape(-1, x.shape[-1])
        rows = rows[evenly_spread(len(rows), self.tokens, rows.device)]
        weight = layer.weight_operand(layer.weight)
        base = clipped(rows, weight, layer.input_operand.bits, self.clips)
        scale = base.scale[0]
        steps = torch.arange(-self.means, self.means, device=x.device) / self.means
        mean = least_error_noise(rows, weight, base, (scale * step for step in [*steps]), scale.new_zeros(()))
        noise = mean.expand(rows.shape[1])
        if self.noise != "none":
            drawn = scale * random_vector(self.noise, rows.shape[1], generator).to(rows)
            shares = torch.arange(1, 2 * self.shares, device=x.device) / self.shares
            noise = least_error_noise(rows, weight, base, (mean + drawn * share for share in [*shares]), noise)
        take_away(layer, weight @ noise)
        return Noisy(base, noise)


def clipped(x: Tensor, weight: Tensor, bits: int, count: int) -> Uniform:
    """Return the symmetric grid, clipped at i / count of |x|'s maximum (i = 1 .. count), of least output error.

    `x` is (rows, inputs), `weight` (outputs, inputs).
    """
    fractions = torch.arange(count, 0, -1, device=x.device) / count
    scales = x.abs().amax() * fractions / (2 ** (bits - 1) - 1)
    errors = [output_error(symmetric(bits, scale).quantise(x) - x, weight) for scale in scales]
    return symmetric(bits, scales[torch.stack(errors).argmin()])


def least_error_noise(x: Tensor, weight: Tensor, base: Uniform, candidates: Iterable[Tensor], now: Tensor) -> Tensor:
    """Return the noise among `candidates` with the least output error; `now`, where none is better."""
    found = [now, *candidates]
    errors = [output_error(base.quantise(x + noise) - noise - x, weight) for noise in found]
    return torch.stack(found)[torch.stack(errors).argmin()]


def output_error(error: Tensor, weight: Tensor) -> Tensor:
    """Return |W e|^2 over all rows, a number, for an error of the input, (rows, inputs)."""
    return functional.linear(error, weight).square().sum()


def random_vector(kind: Noise, length: int, generator: torch.Generator) -> Tensor:
    """Return the noise for a step of 1: uniform in [-1, 1], or as released, Gaussian of mean -1 and deviation 2."""
    draw = torch.rand if kind == "uniform" else torch.randn
    return 2 * draw(length, generator=generator) - 1


def take_away(layer: Linear, output: Tensor) -> None:
    """Subtract a vector (outputs,) from what a layer puts out."""
    bias: Tensor | None = layer.bias  # Swin's patch merging has none
    layer.bias = nn.Parameter(-output if bias is None else bias - output, requires_grad=False)


def _symmetric_weights(net: PreparedModel) -> None:
    """Give each output channel of a weight the symmetric grid that ends at its largest magnitude."""
    for operand in net.weights.values():
        if operand.bits != FLOAT_BITS:
            largest = operand.by_channel(net.weight(operand)).abs().amax(1)
            scale = largest / (2 ** (operand.bits - 1) - 1)
            operand.quantizer = Uniform(
                operand.bits, scale, torch.zeros_like(scale), axis=operand.channel_axis, granularity="channel",
                signed=True,
            )  # fmt: skip


def _least_error(x: Tensor, bits: int) -> Quantizer:
    low, high = least_error_range(some_values(x.reshape(1, -1)), bits)
    return uniform(low, high, bits)
