"""GPTQ: weights rounded column by column, those behind make up for the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vitptq.methods.core.layerwise.columns import Order, rounded_by_columns
from vitptq.methods.core.layerwise.layer_problem import LayerProblem
from vitptq.methods.core.layerwise.layerwise_method import LayerwiseMethod, Rounded

SHARED_INFERRED: tuple[str, ...] = (
    "the patch embedding and the head are rounded like the linear layers, a convolution as a linear layer of its "
    'patches (the released code for ViTs leaves both in float: scope="block linears" does, and leaves the attention '
    "products in float, too)",
    "the range of a channel is the one of least squared error among 90 shrunk ones (released: error with power 2.4)",
    "quantised activations have fixed uniform ranges per tensor (released: per token, found while the model runs)",
)


@dataclass(frozen=True)
class GPTQ(LayerwiseMethod):
    """Each layer minimises |W X - Q X|^2 on what the layers before give: no training, one pass per layer.

    1. H = X X^T over all calibration tokens; 10 % of its mean diagonal is added to the diagonal.
    2. Columns in the order of their inputs' energy: round to the channel's grid, divide the error by the diagonal
       of the Cholesky factor of H's inverse, take its row times that from the columns behind.
    """

    name = "gptq"
    title = "GPTQ"
    fidelity = "inferred"
    inferred: ClassVar[tuple[str, ...]] = (
        "the paper has no vision transformer: damping and column order are those with which GPTAQ's authors ran it on "
        "ViTs",
        *SHARED_INFERRED,
    )
    paper = "Frantar et al., GPTQ, ICLR 2023, arXiv 2210.17323"

    damping: float = 0.1
    """What is added to the diagonal of H, as a share of its mean; 0.01 for the paper's language models."""
    order: Order = "energy"

    def rounded(self, layer: LayerProblem) -> Rounded:
        """Return the weight rounded column by column."""
        quantizer = layer.quantizer(self.range_of_channels)
        columns = rounded_by_columns(
            layer.weight, layer.moments.gram, layer.grid(quantizer), damping=self.damping, order=self.order
        )
        return columns, quantizer
