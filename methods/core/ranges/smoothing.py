"""SmoothQuant with a shift: channels behind a LayerNorm are centred and scaled, and the layers that read them undo it.

MPTQ-ViT (Tai and Wu, arXiv 2401.14895) calls it SQ-b; SmoothQuant is Xiao et al., arXiv 2211.10438, equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.ranges.channel_ranges import channel_ranges

FLOOR = 1e-5
"""Least range of a channel and of a weight's column; what is constant would otherwise divide by 0."""


def smooth_behind_layer_norms(
    net: PreparedModel, calibration: Calibration, alpha: float, *, smooth: bool = True, centre: bool = True
) -> None:
    """Fold x^ = (x - b) / s into every LayerNorm and its readers: the float function stays.

    b is the middle of a channel's range (`centre`; else 0), s the `smoothing_factors` of the centred channel (`smooth`;
    else 1).
    """
    pairs = net.norm_readers()
    ranges = channel_ranges(net, calibration, [readers[0].input_operand for _, readers in pairs]) if pairs else {}
    for norm, readers in pairs:
        low, high = ranges[readers[0].input_operand]
        middle = (low + high) / 2 if centre else torch.zeros_like(low)
        largest = (high - middle).maximum(middle - low)
        factors = smoothing_factors(largest, readers, alpha) if smooth else torch.ones_like(largest)
        fold_into_layer_norm(norm, readers, scale=factors, shift=-middle)


def smoothing_factors(largest: Tensor, readers: Sequence[Linear], alpha: float) -> Tensor:
    """Return s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) per input channel, (in,); `largest` is max|X_j|."""
    weights = torch.cat([reader.weight for reader in readers]).abs().amax(dim=0)  # (out, in) to (in,)
    return largest.clamp_min(FLOOR).pow(alpha) / weights.clamp_min(FLOOR).pow(1 - alpha)
