"""The form of a model in which every tensor between layers has a slot, not only what products read.

A fully quantised model stores embeddings, sums, scores and outputs of layers in few bits, too (FQ-ViT, arXiv
2111.13824). The families give this form; in float it computes what the model does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from vitptq.bench.bits import FLOAT_BITS, BitSpec
from vitptq.methods.core.model.operands import Operand

SCORE_BITS = 8
"""Scores enter no product, and have 8 bits whatever the bit spec, as the image has."""


class Point(Operand):
    """The slot of a tensor (..., C) that no product reads as it is."""

    def __init__(self, bits: int) -> None:
        super().__init__("input", bits, channel_axis=-1)


class Attention(nn.Module, ABC):
    """Attention with slots for what its first layer puts out, for scores and for its output.

    Queries, keys and values are parts of one tensor, so they share its grid. `softmax` can be another module.
    """

    def __init__(self, bits: BitSpec) -> None:
        super().__init__()
        self.qkv_out = Point(bits.activations)
        self.scores = Point(score_bits(bits))
        self.softmax: nn.Module = nn.Softmax(dim=-1)
        self.proj_out = Point(bits.activations)

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend, shape (B, N, C) to (B, N, C)."""


@dataclass(frozen=True)
class NormPlace:
    """A normalisation by its name, the slot whose tensor it reads, and the slot that stores its output.

    It reads `copies` neighbours' channels side by side where patches are merged.
    """

    norm: str
    before: Operand
    after: Operand
    copies: int = 1


class FullModel(nn.Module, ABC):
    """A model in full form, called like the float model that it was made from."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, 3, H, W)."""

    @abstractmethod
    def norms(self) -> list[NormPlace]:
        """Return every normalisation with its slots, in execution order."""

    @abstractmethod
    def stream(self) -> list[Operand]:
        """Return the slots of the residual stream: the sums, whose channels differ most in range."""

    def attentions(self) -> list[Attention]:
        """Return the attentions, in execution order."""
        return [module for module in self.modules() if isinstance(module, Attention)]


def score_bits(bits: BitSpec) -> int:
    """Return the width of scores."""
    return FLOAT_BITS if bits.activations == FLOAT_BITS else SCORE_BITS


def computes(*modules: nn.Module) -> bool:
    """Tell whether one of the modules is no identity."""
    return not all(isinstance(module, nn.Identity) for module in modules)
