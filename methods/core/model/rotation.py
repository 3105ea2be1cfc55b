"""Rotations merged into a float model's weights: its function stays, its activations lose their wide channels.

The offline rotation of GLF-Q (Sun et al., 2026). Row vectors; M = I - 1 1^T / C takes the mean off.
"""

from __future__ import annotations

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.reporting import note_details
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import families, family_of
from vitptq.methods.core.model.hadamard import core_of, random_signs, randomised_hadamard, times_hadamard
from vitptq.methods.core.model.rotated_parts import Heads, ResidualStream, StreamNorm, merge

Rotation = Literal["none", "heads", "full"]
""""heads": queries with keys, and values with the projection, head by head. "full": the residual stream as well, in
families where LayerNorms alone read it; in the others (Swin merges patches, detectors read the maps) the heads."""


class RMSNorm(nn.LayerNorm):
    """A LayerNorm of tokens whose mean was taken off before they were rotated; a scale and a shift can be folded in."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x / sqrt(mean(x^2) + eps) times scale plus shift, (..., C)."""
        normalised = input * (input.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return normalised * self.weight + self.bias


class ReturningNorm(nn.LayerNorm):
    """A LayerNorm that first turns its input back, by additions alone: for readers that know the channels."""

    signs: Tensor
    core: Tensor

    def __init__(self, norm: nn.LayerNorm, signs: Tensor) -> None:
        super().__init__(list(norm.normalized_shape), norm.eps, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.register_buffer("signs", (signs / math.sqrt(len(signs))).to(norm.weight))
        self.register_buffer("core", core_of(len(signs)).to(norm.weight))

    def forward(self, input: Tensor) -> Tensor:
        """Return the LayerNorm of x R^T, (..., C)."""
        return super().forward(times_hadamard(input, self.core) * self.signs)


def rotated(model: nn.Module, rotation: Rotation, seed: int) -> nn.Module:
    """Return a copy of the float `model` with the same function, rotated by matrices drawn from `seed`.

    With "none" the model itself. Raises Unsupported where a family has no attention that can be rotated.
    """
    if rotation == "none":
        return model
    family = family_of(model)
    if not family.can_rotate:
        known = ", ".join(each.name for each in families() if each.can_rotate)
        raise Unsupported(f"no rotation of a {type(model).__name__} (family {family.name}); families with one: {known}")
    net = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    if rotates_stream(net, rotation):
        assert family.residual_stream is not None
        rotate_stream(family.residual_stream(net), generator)
    elif rotation == "full":
        note_details("rotation", f"heads alone: more than LayerNorms reads the residual stream of a {family.name}")
    for heads in family.heads(net):
        rotate_heads(heads, generator)
    return net


def rotates_stream(model: nn.Module, rotation: Rotation) -> bool:
    """Tell whether `rotated` turns the residual stream of this model."""
    return rotation == "full" and family_of(model).residual_stream is not None


@torch.no_grad()
def rotate_stream(stream: ResidualStream, generator: torch.Generator) -> None:
    """Write E M R for what enters the stream, R^T diag(gamma) W and b + beta W for what reads its LayerNorms.

    The LayerNorms, read by nothing else, become RMSNorms.
    """
    for scale in stream.scales:
        merge(scale)
    width = stream.writers[0].read()[0]
    signs = random_signs(len(width), generator).to(width.device)
    rotation = randomised_hadamard(signs)  # R, (C, C)
    into = rotation - rotation.mean(0)  # M R
    for module, name in stream.tokens:
        token = getattr(module, name)
        token.copy_(token.double() @ into)
    for writer in stream.writers:
        weight, bias = writer.read()  # (C, in, ...), (C,)
        writer.write(torch.tensordot(into.T, weight, dims=1), None if bias is None else bias @ into)
    for place in stream.norms:
        _fold(place, rotation, signs)


def _fold(place: StreamNorm, rotation: Tensor, signs: Tensor) -> None:
    norm = getattr(place.parent, place.name)
    for reader in place.readers:
        weight, bias = reader.read()  # (out, C), (out,)
        shift = weight @ norm.bias.double()
        reader.write(weight * norm.weight.double() @ rotation, shift if bias is None else bias + shift)
    folded: nn.Module = RMSNorm(norm.normalized_shape, norm.eps, device=norm.weight.device, dtype=norm.weight.dtype)
    setattr(place.parent, place.name, folded if place.readers else ReturningNorm(norm, signs))


@torch.no_grad()
def rotate_heads(heads: Heads, generator: torch.Generator) -> None:
    """Turn queries and keys of each head by one matrix, values by another one that the projection undoes."""
    weight, bias = heads.qkv.read()
    parts = weight.unflatten(0, (3, heads.number, -1))  # (3, heads, size, C)
    size = parts.shape[2]
    of_scores, of_values = (_per_head(heads.number, size, generator).to(weight.device) for _ in range(2))
    still = torch.eye(size).to(of_scores).expand_as(of_scores)
    of_scores = of_scores if heads.plain_scores else still
    of_values = of_values if heads.plain_values else still
    turns = torch.stack([of_scores, of_scores, of_values])  # (3, heads, size, size)
    if bias is not None:
        bias = (bias.unflatten(0, (3, heads.number, 1, size)) @ turns).flatten()
    heads.qkv.write((turns.transpose(-1, -2) @ parts).flatten(0, 2), bias)
    weight, bias = heads.proj.read()
    back = weight.unflatten(1, (heads.number, size)).transpose(0, 1) @ of_values  # (heads, out, size)
    heads.proj.write(back.transpose(0, 1).flatten(1), bias)


def _per_head(heads: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.stack([randomised_hadamard(random_signs(size, generator)) for _ in range(heads)])
