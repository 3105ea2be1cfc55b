"""GPTAQ: GPTQ towards the float model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vitptq.methods.core.layerwise.columns import rounded_by_columns
from vitptq.methods.core.layerwise.layer_problem import LayerProblem
from vitptq.methods.core.layerwise.layerwise_method import Rounded
from vitptq.methods.core.layerwise.moments import ALL, Wanted
from vitptq.methods.gptq import GPTQ, SHARED_INFERRED


@dataclass(frozen=True)
class GPTAQ(GPTQ):
    """Each layer minimises |W X~ - Q X|^2: X what the quantised layers before give, X~ what the float ones do.

    As GPTQ, and each column adds its share of (X~ - X) X^T to the columns behind it: W_j P_j with
    P = ((X~ - X) X^T L * strictly upper ones) L^T (equation 18), L L^T the inverse of H. Activations are quantised
    before the weights.
    """

    name = "gptaq"
    title = "GPTAQ"
    fidelity = "inferred"
    inferred: ClassVar[tuple[str, ...]] = (
        "P is used as in algorithm 1 (the released code multiplies it by 0.25: correction=0.25)",
        *SHARED_INFERRED,
    )
    paper = "Li et al., GPTAQ, ICML 2025, arXiv 2504.02692"
    wanted: ClassVar[frozenset[Wanted]] = ALL

    activations_first: bool = True
    correction: float = 1.0
    """What P is multiplied by; 0 is GPTQ with the activations quantised first."""

    def rounded(self, layer: LayerProblem) -> Rounded:
        """Return the weight rounded column by column, towards the float output."""
        quantizer = layer.quantizer(self.range_of_channels)
        columns = rounded_by_columns(
            layer.weight, layer.moments.gram, layer.grid(quantizer), damping=self.damping, order=self.order,
            drift=self.correction * layer.moments.drift,
        )  # fmt: skip
        return columns, quantizer
