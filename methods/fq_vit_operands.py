"""FQ-ViT on the operands of products alone, as every other method: LayerNorm and softmax on integers, too."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vitptq import BitSpec, Calibration, Method, RunningMinMax, observe_activations, observe_weights, prepare
from vitptq.methods.core.ranges.integer import integer_norms, integer_softmaxes


@dataclass(frozen=True)
class FQViTOperands(Method):
    """FQ-ViT on the standard track: min-max ranges of the operands, with integer LayerNorm and integer softmax.

    `fq-vit` is the published form, which quantises everything between the products, too.
    1. Weights: symmetric min-max per output channel. Activations: asymmetric min-max per tensor.
    2. What enters a LayerNorm gets one base scale and, per channel, one of four power-of-two factors (of least squared
       error on the last batch), so that the LayerNorm can be computed on integers.
    3. Softmax is a polynomial on integers; its output is a power of two, 2^-code with a 4-bit code.
    """

    name = "fq-vit-operands"
    title = "FQ-ViT (operands)"
    fidelity = "inferred"
    inferred = (
        "embeddings, residual sums, outputs of layers and logits stay in float, as on the standard track (in the paper "
        "they have 8 bits: fq-vit); the residual stream is rounded where a LayerNorm reads it",
        "queries, keys and values have a scale each, and the last LayerNorm's output scale covers all tokens (in the "
        "released code one scale, and the class token alone)",
        "scores are rounded relative to the largest of their row, with 8 bits over the widest row, which need not "
        "reach further down than 2^-30",
        "the last softmax code keeps its value 2^-15 (the released code has 0 as a 17th value; lis_zero=True gives "
        "that form, which the audit reports)",
        "LayerNorm's epsilon is kept (the released code has none and divides by zero on a constant token)",
        "ranges are extended to hold 0, so one-sided tensors keep their top",
        "below 8 bits, which the paper does not define, the LayerNorm input has the nominal width and scores 8 bits",
        "batch and group normalisations stay in float, batch normalisations behind convolutions folded",
        "factors, integer LayerNorm and integer softmax agree with the official code's, the whole is another model",
    )
    paper = "Lin et al., FQ-ViT, IJCAI 2022, arXiv 2111.13824"

    integer_norm: bool = True
    integer_softmax: bool = True
    """Log-int-softmax ("8/8/4" in the paper); without it the output is uniform at the nominal width ("8/8/8")."""
    lis_zero: bool = False

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with quantised products and integer LayerNorm and softmax."""
        net = prepare(model, bits)
        observe_weights(net, symmetric=True)
        observe_activations(net, calibration, RunningMinMax)
        if self.integer_softmax:
            for operand, softmax in integer_softmaxes(net, calibration, zero=self.lis_zero).items():
                operand.quantizer = softmax
        if self.integer_norm:
            integer_norms(net, calibration, bits.activations)
        return net.switch(True)
