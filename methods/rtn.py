"""Round to nearest: the floor of the weight-only section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from vitptq.methods.core.layerwise.layer_problem import LayerProblem
from vitptq.methods.core.layerwise.layerwise_method import LayerwiseMethod, Rounded
from vitptq.methods.core.layerwise.moments import Wanted


@dataclass(frozen=True)
class RoundToNearest(LayerwiseMethod):
    """Round each weight to the nearest value of its output channel's asymmetric grid, from the channel's extremes.

    No image is needed for the weights; quantised activations have uniform ranges of least squared error per tensor.
    """

    name = "rtn"
    title = "RTN"
    fidelity = "paper"
    paper = "The baseline of Frantar et al., GPTQ, ICLR 2023, arXiv 2210.17323"
    wanted: ClassVar[frozenset[Wanted]] = frozenset()

    ranges: Literal["least-error", "min-max"] = "min-max"

    def rounded(self, layer: LayerProblem) -> Rounded:
        """Return the weight rounded to nearest."""
        return self.to_nearest(layer)
