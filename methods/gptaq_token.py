"""GPTAQ as its authors ran it on vision transformers: a range for every token, found while the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vitptq.bench.bits import FLOAT_BITS, BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.dynamic_token import DynamicToken
from vitptq.methods.gptaq import GPTAQ
from vitptq.methods.gptq import SHARED_INFERRED


@dataclass(frozen=True)
class GPTAQToken(GPTAQ):
    """GPTAQ, and the input of each linear layer has an asymmetric range per image and token, dynamically.

    With `scope = "block linears"` nothing else is quantised, as in the paper's table. `correction = 0` with
    `activations_first = false` is GPTQ in that table.
    """

    name = "gptaq-token"
    title = "GPTAQ (per token)"
    fidelity = "inferred"
    inferred = (
        "P is multiplied by 0.25, as the released code does; algorithm 1 has 1",
        "activations are not clipped, as in the released code; the text has 0.9 (clip=0.9)",
        'with scope="all" what is no input of a linear layer has a fixed range per tensor',
        *SHARED_INFERRED[:-1],
    )
    paper = "Li et al., GPTAQ, ICML 2025, arXiv 2504.02692"
    dynamic: ClassVar[bool] = True

    correction: float = 0.25
    clip: float = 1.0
    """What a token's extremes are multiplied by."""

    def start(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> PreparedModel:
        """Return the model with a range per token for the inputs of linear layers."""
        net = super().start(model, calibration, bits)
        for layer in net.layers.values():
            if isinstance(layer, Linear) and bits.activations != FLOAT_BITS:
                layer.input_operand.quantizer = DynamicToken(layer.input_operand.bits, self.clip)
        return net
