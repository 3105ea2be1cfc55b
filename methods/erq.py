"""ERQ: two ridge regressions, one against the error of the activations, one against that of the weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitptq import BadInput, BitSpec, Calibration, Linear, Method, PreparedModel, Uniform, Unsupported, prepare, report
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.layerwise.layerwise_method import put
from vitptq.methods.core.layerwise.matrices import input_rows, rows_per_channel, weight_matrix, weight_of
from vitptq.methods.core.layerwise.moments import inputs_of, layers_in_order
from vitptq.methods.core.layerwise.row_grid import RowGrid
from vitptq.methods.core.model.operands import Layer
from vitptq.methods.core.ranges.percentile_error import least_error_affine
from vitptq.methods.repq_vit import RepQViT


@dataclass(frozen=True)
class ERQ(Method):
    """Each layer makes up for the rounding of its inputs, then half by half for that of its own weight. No training.

    1. RepQ-ViT reparameterises the LayerNorms and sets the activations' grids.
    2. Aqer: weight and bias get the ridge regression of the float output on the rounded inputs.
    3. Wqer: the first half of the columns is rounded, some codes are moved to the other neighbour where that lowers the
       output error, and the columns behind and the bias make up for the rest; then the next half.
    All layers read what they read in the float model, rounded.
    """

    name = "erq"
    title = "ERQ"
    fidelity = "inferred"
    inferred = (
        "from a description of the released code; the papers' bodies were not read and no code was compared",
        "lambda is a share of the number of tokens (released: a number, so that it weakens with more images); the "
        "default is that of 20,000 on 1,024 images of 197 tokens, for every layer",
        "the entry that is moved is the one with the largest gradient; an odd number of columns leaves the larger half",
        "the columns behind are regressed on rounded inputs",
        "RepQ-ViT in its paper's form, with Swin's patch merging reparameterised, too",
        "the places of a transposed convolution's kernel share one bias, which gets the mean of theirs",
        "with float activations, a plain model whose weights are rounded by step 3 alone",
    )
    paper = "Zhong et al., ERQ, ICML 2024, arXiv 2407.06794; TPAMI 2025"

    ridge: float = 0.01
    """Lambda for one token."""
    convolution_ridge: float = 10.0
    """What it is multiplied by for a convolution, which has neither step 2 nor moved codes."""
    aqer: bool = True
    wqer: bool = True
    """Without it, weights are rounded to nearest."""
    moves: int = 100
    """How many codes of a row may be moved in each half."""
    percentiles: tuple[float, ...] = (0.999, 0.9999, 0.99999)

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with corrected weights on their grids."""
        if not self.ridge > 0:
            raise BadInput(f"ridge = {self.ridge}: the regressions need a positive number, such as 0.01")
        if bits.weights == FLOAT_BITS:
            raise Unsupported(f"ERQ rounds weights, and {bits} leaves them in float; give for example W4A4")
        plain = bits.activations == FLOAT_BITS
        net = prepare(model, bits) if plain else RepQViT().calibrated(model, calibration, bits)
        net.switch(True)
        twin, calls = net.twin(), layers_in_order(net, calibration)
        for place, (name, layer) in enumerate(net.layers.items()):
            report("layers", place, len(net.layers))
            self._round(layer, float_inputs(twin, name, calls.get(name, 0), calibration))
        return net.switch(True)

    def _round(self, layer: Layer, inputs: Iterable[Tensor]) -> None:
        linear = isinstance(layer, Linear)
        theta, moments = with_bias(layer), RoundedMoments.over(layer, inputs)
        ridge = self.ridge if linear else self.ridge * self.convolution_ridge
        if self.aqer and linear and moments:
            theta = theta + aqer(theta, moments, ridge)
        quantizer = self._quantizer(layer, theta)
        grid = RowGrid.of(quantizer, len(theta), rows_per_channel(layer))
        if self.wqer and moments:
            theta = rounded_by_halves(theta, moments.gram, grid, ridge, self.moves if linear else 0)
        put(layer, (grid.nearest(theta[:, :, :-1]), quantizer))
        bias = theta[:, :, -1].reshape(-1, rows_per_channel(layer)).mean(1)
        layer.bias = nn.Parameter(bias.to(layer.weight), requires_grad=False)

    def _quantizer(self, layer: Layer, theta: Tensor) -> Uniform:
        """Return a grid per output channel, for the corrected weight."""
        slot = layer.weight_operand
        rows = slot.by_channel(weight_of(layer, theta[:, :, :-1]).to(layer.weight))
        scale, zero = least_error_affine(rows, slot.bits, self.percentiles)
        return Uniform(slot.bits, scale, zero, axis=slot.channel_axis, granularity="channel")


def with_bias(layer: Layer) -> Tensor:
    """Return weight and bias as one matrix, (groups, outputs, inputs + 1), float64."""
    weight = weight_matrix(layer, layer.weight.double())
    own: Tensor | None = layer.bias
    bias = weight.new_zeros(layer.weight.shape[0]) if own is None else own.double()
    column = bias.repeat_interleave(rows_per_channel(layer)).reshape(*weight.shape[:2], 1)
    return torch.cat([weight, column], dim=2)


def float_inputs(twin: PreparedModel, name: str, calls: int, calibration: Calibration) -> Iterable[Tensor]:
    """Yield what a layer reads in the float model; nothing, where it does not run."""
    for batch in calibration.batches() if calls else ():
        yield from inputs_of(twin, name, calls, calibration, batch)


@dataclass(frozen=True)
class RoundedMoments:
    """Means over all tokens, float64; A are a layer's rounded inputs and a column of ones, X its float inputs."""

    gram: Tensor
    """A^T A, (groups, inputs + 1, inputs + 1)."""
    lost: Tensor
    """(X - Xq)^T A, (groups, inputs, inputs + 1): what rounding took away."""

    @classmethod
    def over(cls, layer: Layer, inputs: Iterable[Tensor]) -> RoundedMoments | None:
        """Return the moments of what a layer reads; none where it reads nothing."""
        gram, lost, count = torch.zeros(()), torch.zeros(()), 0
        for x in inputs:
            pairs = zip(input_rows(layer, x), input_rows(layer, layer.input_operand(x)), strict=True)
            for plain, rounded in pairs:
                a = functional.pad(rounded, (0, 1), value=1.0)
                gram = gram.to(a.device) + (a.transpose(1, 2) @ a).double()
                lost = lost.to(a.device) + ((plain - rounded).transpose(1, 2) @ a).double()
                count += a.shape[1]
        return cls(gram / count, lost / count) if count else None


def aqer(theta: Tensor, moments: RoundedMoments, ridge: float) -> Tensor:
    """Return D of least |W X - (theta + D) A|^2 + ridge |D|^2 per token, W being `theta` without its last column."""
    return times_inverse(theta[:, :, :-1] @ moments.lost, moments.gram, ridge)


def rounded_by_halves(theta: Tensor, gram: Tensor, grid: RowGrid, ridge: float, moves: int) -> Tensor:
    """Return `theta` (groups, outputs, n + 1) with all columns but the last on the grid.

    The first half of the columns that are left is rounded, and the others, the bias with them, get the ridge regression
    of its error. `gram` is (groups, n + 1, n + 1).
    """
    theta, start = theta.clone(), 0
    while (left := theta.shape[2] - start) > 1:
        half, rest = slice(start, start + left // 2), slice(start + left // 2, None)
        weight = theta[:, :, half]
        error = moved(grid.nearest(weight) - weight, weight, gram[:, half, half], grid, moves)
        theta[:, :, rest] -= times_inverse(error @ gram[:, half, rest], gram[:, rest, rest], ridge)
        theta[:, :, half] += error
        start = half.stop
    return theta


def moved(error: Tensor, weight: Tensor, gram: Tensor, grid: RowGrid, moves: int) -> Tensor:
    """Return the rounding error (groups, outputs, n) of a weight after moves to the other neighbour on the grid.

    In each row, up to `moves` times: of the entries whose error has the sign of its gradient, the one with the largest
    gradient goes to the neighbour that is nearer to a step against it; a row in which that makes e^T C e grow, C being
    `gram`, stops.
    """
    codes = weight / grid.scale
    below, above = (
        torch.minimum(torch.maximum(near, grid.lowest), grid.highest) * grid.scale - weight
        for near in (codes.floor(), codes.ceil())
    )
    error, pull = error.clone(), error @ gram
    diagonal = gram.diagonal(dim1=1, dim2=2)[:, None].expand_as(error)
    groups = torch.arange(len(error), device=error.device)[:, None]
    going = torch.ones_like(error[:, :, :1], dtype=torch.bool)
    for _ in range(moves):
        places = pull.abs().masked_fill(error * pull <= 0, 0).argmax(dim=2, keepdim=True)  # (groups, outputs, 1)
        now, slope = error.gather(2, places), 2 * pull.gather(2, places)
        low, high = below.gather(2, places), above.gather(2, places)
        step = low.where((low - now + slope).abs() <= (high - now + slope).abs(), high) - now
        grows = step * slope + step.square() * diagonal.gather(2, places) > 0
        going &= ~grows & (step != 0) & (now * slope > 0)
        step = step * going
        error.scatter_add_(2, places, step)
        pull += step * gram[groups, places[:, :, 0]]
    return error


def times_inverse(left: Tensor, gram: Tensor, ridge: float) -> Tensor:
    """Return left (gram + ridge I)^-1 for left (groups, rows, n)."""
    damped = gram + ridge * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.cholesky_solve(left.transpose(1, 2), torch.linalg.cholesky(damped))
    return solved.transpose(1, 2)
