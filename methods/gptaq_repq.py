"""GPTAQ's weights under RepQ-ViT's activations: what the standard track's operands need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.gptaq import GPTAQ
from vitptq.methods.gptq import SHARED_INFERRED
from vitptq.methods.repq_vit import RepQViT


@dataclass(frozen=True)
class GPTAQRepQ(GPTAQ):
    """RepQ-ViT reparameterises the LayerNorms and sets the activations' grids; then GPTAQ rounds the weights for them.

    The float model to compare with is the reparameterised one, whose function is the same. `correction = 0` is GPTQ
    on these activations.
    """

    name = "gptaq-repq"
    title = "GPTAQ + RepQ-ViT"
    fidelity = "inferred"
    inferred: ClassVar[tuple[str, ...]] = (
        "no paper joins the two: the weight step of GPTAQ on the activation quantizers of RepQ-ViT in its paper's form",
        *SHARED_INFERRED[:2],
    )
    paper = "Li et al., GPTAQ, ICML 2025, arXiv 2504.02692; Li et al., RepQ-ViT, ICCV 2023, arXiv 2212.08254"

    def start(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> PreparedModel:
        """Return the reparameterised model with RepQ-ViT's activation quantizers, its weights in float again."""
        net = RepQViT(rotation=self.rotation).calibrated(model, calibration, bits)
        for operand in net.weights.values():
            operand.quantizer = None
        return net
