"""SmoothQuant, as the page docs/add-a-method.md explains it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitptq import (
    BadInput,
    BitSpec,
    Calibration,
    Linear,
    Method,
    Operand,
    PreparedModel,
    RunningMinMax,
    fold_into_layer_norm,
    note_table,
    observe_activations,
    observe_weights,
    prepare,
    report,
    watching,
)


@dataclass(frozen=True)
class SmoothQuant(Method):
    """Move wide channels from the activations behind a LayerNorm into the weights that read them; then min-max."""

    name = "smoothquant"
    title = "SmoothQuant"
    fidelity = "inferred"
    inferred = ("operands, granularity and ranges are those of MinMax: the paper has 8 bits and language models",)
    paper = "Xiao et al., SmoothQuant, ICML 2023, arXiv 2211.10438"

    alpha: float = 0.5
    """How much of the difficulty moves: 0 equalises the weights, 1 the activations."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise BadInput(f"alpha={self.alpha} of SmoothQuant: allowed is 0 to 1")

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the smoothed, quantised model."""
        net = prepare(model, bits)
        widest = largest_by_channel(net, calibration)
        for norm, readers in net.norm_readers():
            factors = self.factors(widest[readers[0].input_operand.name], readers)
            fold_into_layer_norm(norm, readers, scale=factors, shift=torch.zeros_like(factors))
        observe_weights(net)
        observe_activations(net, calibration, RunningMinMax)
        return net.switch(True)

    def factors(self, activations: Tensor, readers: tuple[Linear, ...]) -> Tensor:
        """Return s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) per input channel, (in,): equation 4."""
        weights = torch.cat([reader.weight for reader in readers]).abs().amax(dim=0)  # (out, in) to (in,)
        return activations.clamp_min(1e-5).pow(self.alpha) / weights.clamp_min(1e-5).pow(1 - self.alpha)


def largest_by_channel(net: PreparedModel, calibration: Calibration) -> dict[str, Tensor]:
    """Return max|x| per channel, (in,), of every tensor behind a LayerNorm, by the name of its slot."""
    slots = {reader.input_operand.name: reader.input_operand for _, readers in net.norm_readers() for reader in readers}
    widest: dict[str, Tensor] = {}

    def watch(operand: Operand, x: Tensor) -> None:
        largest = operand.by_channel(x).abs().amax(dim=1)
        widest[operand.name] = torch.maximum(largest, widest.get(operand.name, largest))

    batches = list(calibration.batches())
    for done, batch in enumerate(batches):
        report("channel maxima", done, len(batches))
        with watching(slots, watch):
            calibration.forward(net.model, batch)
    rows = [{"input": name, "widest over median": (x.amax() / x.median()).item()} for name, x in widest.items()]
    note_table("channels", rows, "Largest values by channel before they move; 1 where all channels are alike.")
    return widest
