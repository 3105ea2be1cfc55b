"""Terms of MaskAQ (Qian et al., arXiv 2606.04373) on attention scores, for images that are made for two models.

Scores are Q K^T in front of the softmax, (images or windows, heads, tokens, tokens); `prefix` says how many tokens in
front are no patches (a class token). From the released code hfutqian/MaskAQ at 3245400.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants, for values between 0 and 1."""
FLOOR = 1e-8
MOST_PATCHES = 64
"""Patches of an image, drawn at random, whose similarities stand for all."""
DROPPED = 0.3
"""Share of the chosen keys that the mask leaves out again, at random."""


def heads_apart(scores: Sequence[Tensor], prefix: int) -> Tensor:
    """Return the mean of 1 - SSIM^2 between the maps of every two heads, each query's map stretched to 0..1."""
    similarities = [_similarity_of_heads(each[..., prefix:, prefix:]) for each in scores]
    return torch.stack([(1 - each.square()).mean() for each in similarities]).mean()


def _similarity_of_heads(scores: Tensor) -> Tensor:
    """Return the SSIM of each query's maps, (images, queries, heads, heads), over all keys at once."""
    maps = scores.transpose(1, 2)  # (images, queries, heads, keys)
    maps = maps - maps.amin(-1, keepdim=True)
    maps = maps / (maps.amax(-1, keepdim=True) + FLOOR)
    mean = maps.mean(-1)
    product = mean[..., :, None] * mean[..., None, :]
    covariance = maps @ maps.transpose(-2, -1) / maps.shape[-1] - product
    variance, square = covariance.diagonal(dim1=-2, dim2=-1), mean.square()
    above = (2 * product + C1) * (2 * covariance + C2)
    below = (square[..., :, None] + square[..., None, :] + C1) * (variance[..., :, None] + variance[..., None, :] + C2)
    return above / below


def entropy_of_patches(scores: Sequence[Tensor], prefix: int, generator: torch.Generator) -> Tensor:
    """Return the entropy 0.5 ln(2 pi e var) of the cosines between patches' rows of scores, a mean over images.

    It takes the cosines as normally distributed; heads are averaged.
    """
    found = []
    for each in scores:
        rows = each[..., prefix:, prefix:].mean(1)  # (images, patches, patches)
        some = torch.randperm(rows.shape[1], generator=generator)[:MOST_PATCHES].to(rows.device)
        directions = torch.nn.functional.normalize(rows[:, some], dim=-1, eps=1e-6)
        cosines = (directions @ directions.transpose(1, 2)).flatten(1)
        variance = cosines.var(dim=1, unbiased=False) + FLOOR
        found.append((0.5 * (math.log(2 * math.pi * math.e) + variance.log())).mean())
    return torch.stack(found).mean()


def masked_difference(
    expected: Sequence[Tensor], found: Sequence[Tensor], prefix: int, share: float, generator: torch.Generator
) -> Tensor:
    """Return the mean absolute difference of two models' attention to the keys that the first attends to most.

    Attention is a mean over heads, of the class token's query or, without one, over all queries. The mask holds a
    `share` of the keys, by all layers together where their attention has one shape, less some at random.
    """
    pairs = [(attention_to_keys(e, prefix), attention_to_keys(f, prefix)) for e, f in zip(expected, found, strict=True)]
    together = len({e.shape for e, _ in pairs}) == 1
    whole = torch.stack([e for e, _ in pairs]).mean(0) if together else None
    masks = [informative_keys(e if whole is None else whole, share) for e, _ in pairs]
    masks = [thinned(masks[0], generator)] * len(masks) if together else [thinned(m, generator) for m in masks]
    terms = [((e - f).abs() * mask).sum() / (mask.sum() + FLOOR) for (e, f), mask in zip(pairs, masks, strict=True)]
    return torch.stack(terms).mean()


def attention_to_keys(scores: Tensor, prefix: int) -> Tensor:
    """Return how much attention each patch gets, (images, patches)."""
    over_heads = scores.mean(1)
    return over_heads[:, 0, prefix:] if prefix else over_heads.mean(1)


@torch.no_grad()
def informative_keys(attention: Tensor, share: float) -> Tensor:
    """Return 1 for the share of the patches with the most attention, at least one, else 0; (images, patches)."""
    count = max(1, int(attention.shape[1] * share))
    return torch.zeros_like(attention).scatter_(1, attention.topk(count, dim=1).indices, 1.0)


@torch.no_grad()
def thinned(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask without some of its ones, of each image as many, drawn at random; at least one stays."""
    chosen = int(mask[0].sum())
    kept = min(chosen, max(1, round(chosen * (1 - DROPPED))))
    order = torch.rand(mask.shape, generator=generator).to(mask.device) * mask  # zeros stay behind all ones
    return torch.zeros_like(mask).scatter_(1, order.topk(kept, dim=1).indices, 1.0)
