"""Widen a few LayerNorm channels of a transformer without changing its function.

LayerNorm weight and bias of a channel are multiplied by a factor and the columns of the Linear that reads the channel
are divided by it. Factors are powers of two: a float product only changes its exponent, so the outputs are the same
bits (as long as nothing overflows or becomes subnormal). Powers of two are coarse, so the channels are chosen among
all of a layer's for the closeness of their widened range to the wanted one.

Only LayerNorms whose single reader is a Linear layer take part. The last norm of a network feeds pooling or a token
selection before the head and is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from timm.models.vision_transformer import Block
from torch import nn

RATIO = 20.0
SHARE = 0.03
AT_LEAST = 2
# The widest channel has the full ratio, the next ones less, so that no two channels of a layer must share one range.
_FALLOFF = 0.75

Plan = dict[str, list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A LayerNorm and the only layer that reads its output."""

    name: str
    norm: nn.LayerNorm
    reader: nn.Linear


def pairs(model: nn.Module) -> list[Pair]:
    """Return the LayerNorms of a ViT or Swin that feed exactly one Linear, in the order of the network."""
    names = {id(module): name for name, module in model.named_modules()}
    return [Pair(names[id(norm)], norm, reader) for norm, reader in _readers(model)]


def widen(model: nn.Module, plan: Plan) -> None:
    """Multiply the planned channels by their powers of two, in place, and divide what reads them."""
    known = {pair.name: pair for pair in pairs(model)}
    if unknown := sorted(set(plan) - set(known)):
        raise ValueError(f"the plan names {', '.join(unknown)}; the model's LayerNorms are {', '.join(known)}")
    with torch.no_grad():
        for name, chosen in plan.items():
            pair = known[name]
            for channel, exponent in chosen:
                factor = 2.0**exponent
                pair.norm.weight[channel] *= factor
                pair.norm.bias[channel] *= factor
                pair.reader.weight[:, channel] /= factor


def plan(model: nn.Module, sample: torch.Tensor, *, ratio: float = RATIO, share: float = SHARE) -> Plan:
    """Return which channels to widen and by how much, so that each layer's widest is `ratio` times its median."""
    return {name: _choose(values, ratio, share) for name, values in channel_ranges(model, sample).items()}


def channel_ranges(model: nn.Module, sample: torch.Tensor) -> dict[str, list[float]]:
    """Return, for every LayerNorm of `pairs`, maximum minus minimum of each output channel over the sample."""
    ranges: dict[str, list[float]] = {}

    def record(name: str, output: torch.Tensor) -> None:
        flat = output.flatten(0, -2)  # (tokens, channels)
        ranges[name] = (flat.amax(0) - flat.amin(0)).tolist()

    hooks = [
        pair.norm.register_forward_hook(lambda _module, _inputs, output, name=pair.name: record(name, output))
        for pair in pairs(model)
    ]
    try:
        with torch.no_grad():
            model(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def spread(ranges: Sequence[float]) -> float:
    """Return the widest range divided by the median range."""
    return max(ranges) / median(ranges)


def _readers(model: nn.Module) -> Iterator[tuple[nn.LayerNorm, nn.Linear]]:
    for module in model.modules():
        match module:
            case Block():
                yield _pair(module.norm1, module.attn.qkv)
                yield _pair(module.norm2, module.mlp.fc1)
            case SwinTransformerBlock():
                yield _pair(module.norm1, module.attn.qkv)
                yield _pair(module.norm2, module.mlp.fc1)
            case PatchMerging():
                yield _pair(module.norm, module.reduction)


def _pair(norm: object, reader: object) -> tuple[nn.LayerNorm, nn.Linear]:
    if not isinstance(norm, nn.LayerNorm) or not isinstance(reader, nn.Linear):
        raise TypeError(
            f"expected a LayerNorm read by a Linear, found {type(norm).__name__} and {type(reader).__name__}"
        )
    return norm, reader


def _choose(ranges: Sequence[float], ratio: float, share: float) -> list[tuple[int, int]]:
    middle = median(ranges)
    chosen: list[tuple[int, int]] = []
    for rank in range(max(AT_LEAST, round(share * len(ranges)))):
        # Never below a fifth of the wanted ratio, so that every chosen channel is a clear outlier.
        wanted = middle * ratio * max(_FALLOFF**rank, 0.2)
        taken = {channel for channel, _ in chosen}
        options = [(c, round(math.log2(wanted / r))) for c, r in enumerate(ranges) if c not in taken and r > 0]
        chosen.append(min(options, key=lambda option: abs(math.log2(ranges[option[0]] * 2.0 ** option[1] / wanted))))
    return chosen
