"""What a family tells of itself so that a model can be rotated: weights, heads, and the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Weights:
    """A linear map, (out, in, ...) and its bias, by the names under which a module holds them."""

    module: nn.Module
    weight: str = "weight"
    bias: str = "bias"

    def read(self) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias in float64, so that what is merged into them is rounded once."""
        bias = getattr(self.module, self.bias)
        return getattr(self.module, self.weight).detach().double(), None if bias is None else bias.detach().double()

    def write(self, weight: Tensor, bias: Tensor | None) -> None:
        """Replace both; a map without a bias may get one."""
        like = getattr(self.module, self.weight)
        setattr(self.module, self.weight, _parameter(weight, like))
        setattr(self.module, self.bias, None if bias is None else _parameter(bias, like))


@dataclass(frozen=True)
class Heads:
    """An attention whose queries, keys and values come out of one layer, in that order, head by head."""

    qkv: Weights
    proj: Weights
    number: int
    plain_scores: bool = True
    """Whether queries and keys go into their product as they come out of the layer."""
    plain_values: bool = True
    """Whether nothing stands between the values and `proj` but the product with the attention."""


@dataclass(frozen=True)
class StreamNorm:
    """A LayerNorm that reads the residual stream, and all that read its output; none where others than layers do."""

    parent: nn.Module
    name: str
    readers: tuple[Weights, ...]


@dataclass(frozen=True)
class LayerScale:
    """A factor per channel between a layer and the sum: `parent.name` holds it as `gamma`."""

    parent: nn.Module
    name: str
    layer: Weights


@dataclass(frozen=True)
class ResidualStream:
    """The sum that runs through a model, where LayerNorms alone read it: then no reader knows its basis and mean."""

    tokens: tuple[tuple[nn.Module, str], ...]
    """Parameters that are added to it or stand in it, channels last: class token, positions."""
    writers: tuple[Weights, ...]
    norms: tuple[StreamNorm, ...]
    scales: tuple[LayerScale, ...] = ()


def _parameter(x: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(x.to(like.dtype).to(like.device), requires_grad=like.requires_grad)


@torch.no_grad()
def merge(scale: LayerScale) -> None:
    """Multiply a LayerScale into the layer before it and take it out."""
    gamma = getattr(scale.parent, scale.name).gamma.detach().double()
    weight, bias = scale.layer.read()
    scale.layer.write(gamma[:, None] * weight, None if bias is None else gamma * bias)
    setattr(scale.parent, scale.name, nn.Identity())
