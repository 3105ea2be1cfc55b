"""Min-max ranges: the floor of the board."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vitptq import BitSpec, Calibration, Method, RunningMinMax, observe_activations, observe_weights, prepare


@dataclass(frozen=True)
class MinMax(Method):
    """Cover exactly the values seen: weights per output channel, activations per tensor, all uniform.

    Weights and inputs of every linear layer and convolution and both inputs of the attention products are quantised;
    the activations' ranges come from one float pass over the calibration set. The form is that of FQ-ViT's observers,
    applied to the operand map of the standard track; ranges are extended to hold 0, so one-sided tensors keep their
    top.
    """

    name = "minmax"
    title = "MinMax"
    fidelity = "paper"
    parity_test = "tests/parity/test_fq_vit.py"
    paper = "The min-max observer in FQ-ViT, Lin et al., IJCAI 2022, arXiv 2111.13824"

    w_symmetric: bool = False
    """Symmetric weight codes, as FQ-ViT has them, instead of asymmetric ones."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with min-max ranges."""
        net = prepare(model, bits)
        observe_weights(net, symmetric=self.w_symmetric)
        observe_activations(net, calibration, RunningMinMax)
        return net.switch(True)
