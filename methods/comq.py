"""COMQ: coordinate descent on the integer grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vitptq.methods.core.layerwise.columns import damped
from vitptq.methods.core.layerwise.layer_problem import LayerProblem
from vitptq.methods.core.layerwise.layerwise_method import LayerwiseMethod, Rounded
from vitptq.methods.core.layerwise.moments import Wanted
from vitptq.methods.core.layerwise.row_grid import RowGrid
from vitptq.methods.core.ranges.estimation import Range, min_max


@dataclass(frozen=True)
class COMQ(LayerwiseMethod):
    """Each row of a weight goes down |X (w - q)|^2 one code at a time; X are the float model's inputs.

    Grid: from the row's extremes, its step times `step_factor`. In each sweep every column in turn takes the grid value
    nearest to what is best with all others fixed, q_j + <X (w - q), X_j> / |X_j|^2; columns of large |X_j| |w_j| first.
    """

    name = "comq"
    title = "COMQ"
    fidelity = "inferred"
    inferred = (
        "every layer sees the same images (the released code draws a new batch for each)",
        "a column whose input is always 0 is rounded to nearest (the released code divides by 0)",
        'the head and the patch embedding are rounded, too (released: left in float, as scope="block linears" does)',
        "three sweeps; the tuning of LayerNorms on labels, in the recipe for 2 bits, is left out",
    )
    paper = "Zhang et al., COMQ, arXiv 2403.07134"
    wanted: ClassVar[frozenset[Wanted]] = frozenset({"float_gram"})

    ranges: Literal["least-error", "min-max"] = "min-max"
    step_factor: float | None = None
    """What the step is multiplied by; none: 1, at 2 bits the released recipe's 0.65."""
    sweeps: int = 3

    def rounded(self, layer: LayerProblem) -> Rounded:
        """Return the weight after the sweeps."""
        quantizer = layer.quantizer(self._shrunk)
        return descended(layer.weight, layer.moments.float_gram, layer.grid(quantizer), self.sweeps), quantizer

    def _shrunk(self, channels: Tensor, bits: int) -> Range:
        factor = self.step_factor if self.step_factor is not None else 0.65 if bits == 2 else 1.0
        low, high = min_max(channels) if self.ranges == "min-max" else self.range_of_channels(channels, bits)
        return low * factor, high * factor


def descended(weight: Tensor, gram: Tensor, grid: RowGrid, sweeps: int) -> Tensor:
    """Return `weight` (groups, outputs, inputs) on the grid after coordinate descent on tr((W - Q) H (W - Q)^T).

    `gram` is H, (groups, inputs, inputs). The objective never grows.
    """
    steep = damped(gram, 0.0)  # 1 on the diagonal of columns that are always 0
    energy = steep.diagonal(dim1=1, dim2=2)
    order = (energy.sqrt()[:, None] * weight.abs()).argsort(dim=2, descending=True, stable=True)
    groups = torch.arange(len(weight), device=weight.device)[:, None]
    rounded = grid.nearest(weight)
    pull = (weight - rounded) @ steep  # (W - Q) H, kept up to date
    for _ in range(sweeps):
        for column in order.split(1, dim=2):  # (groups, outputs, 1): another one in each row
            now, j = rounded.gather(2, column), column[:, :, 0]
            best = grid.nearest(now + pull.gather(2, column) / energy[groups, j][:, :, None])
            pull -= (best - now) * steep[groups, j]
            rounded.scatter_(2, column, best)
    return rounded
