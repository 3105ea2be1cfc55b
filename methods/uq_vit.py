"""UQ-ViT: the largest probability of each row in float, and channel factors searched by the block's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from vitptq import BitSpec, Calibration, Method, Operand, Quantizer, Unsupported, prepare
from vitptq.bench.bits import FLOAT_BITS
from vitptq.methods.core.quantizers.row_maximum import RowMaximum
from vitptq.methods.core.ranges.percentile_error import least_error_log_sqrt2
from vitptq.methods.core.search.behind_prefix import BehindPrefix
from vitptq.methods.core.search.channel_search import ChannelSearch

INFERRED = (
    "the paper's text was not at hand: from a description of the released code jiujiuwei/UQ-ViT at 3d7d4bb2; no code "
    "was compared",
    "quantiles are interpolated (released: the nearest value), on up to 16,384 evenly spread positions of a tensor",
    "between 4 and 6 bits, where nothing is published, 4 bits' form holds below 6 and that of 6 bits from there on",
    "layers outside the blocks with attention, or with a LayerNorm that takes a fold, get RepQ-ViT's first ranges",
    "dividing the input of proj is not folded into the rows of V, whose grid is found before: as released, at run time",
    "inputs behind a GELU are divided from 256 calibration images on; the released detection code never does",
)


@dataclass(frozen=True)
class UQViT(Method):
    """Uniform grids alone: rows of probabilities scaled as they come, channels between activations' and weights' wish.

    Block by block, on inputs from the quantised blocks before; layer by layer, those behind it still in float:

    1. Behind a LayerNorm x' = (x + shift) / r, folded: r = (s / mean s)^(1 - alpha) / w^alpha, s the channels' scales,
       w the columns'. In front of proj and fc2 x' = x / r, r at least 1, divided while the model runs.
    2. alpha, or no r at all, by the squared error of the whole block's output; grids are fitted anew for each.
    3. DeMax: of each row of probabilities the largest stays in float, the rest is quantised between 0 and the second.
    """

    name = "uq-vit"
    title = "UQ-ViT"
    fidelity = "inferred"
    inferred: ClassVar[tuple[str, ...]] = INFERRED
    paper = "UQ-ViT: Harmonizing Extreme Activations with Hardware-Friendly Uniform Quantization in Vision Transformers"
    dynamic: ClassVar[bool] = True
    trial: ClassVar = {"alphas": (0.0, 0.2), "divisor_alphas": (0.5,)}

    percentiles: tuple[float, ...] = (0.999, 0.9999, 0.99999)
    alphas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
    """Tried behind LayerNorms; none leaves them as they are."""
    divisor_alphas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """Tried beside no factors in front of other linear layers."""
    gelu_images: int = 256
    """Fewest calibration images with which inputs behind a GELU are divided."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model on its grids."""
        if FLOAT_BITS in (bits.weights, bits.activations):
            raise Unsupported(f"{self.title} has no form with float weights or activations ({bits})")
        net = prepare(model, bits)
        search = ChannelSearch(
            self.percentiles, self.alphas, self.divisor_alphas, self.gelu_images, probabilities=self.probabilities
        )
        search.run(net, prepare(model, bits), calibration)
        return net.switch(True)

    def probabilities(self, slot: Operand, block: BehindPrefix) -> Quantizer:
        """Return the quantizer of attention probabilities (DeMax)."""
        return RowMaximum(slot.bits)


@dataclass(frozen=True)
class UQViTStatic(UQViT):
    """UQ-ViT's channel factors with a fixed grid behind the softmax, RepQ-ViT's log-sqrt2, in place of DeMax."""

    name = "uq-vit-static"
    title = "UQ-ViT, fixed grids"
    inferred: ClassVar[tuple[str, ...]] = (
        *INFERRED,
        "a variant of ours for what the standard track compares: the released form keeps floats and finds ranges as it "
        "runs",
    )
    dynamic: ClassVar[bool] = False

    def probabilities(self, slot: Operand, block: BehindPrefix) -> Quantizer:
        """Return the log-sqrt2 grid of least squared error."""
        (seen,) = block.read([slot]).values()
        return least_error_log_sqrt2(seen, slot.bits, self.percentiles, "last")
