"""What is known of any picture, whatever it shows: its range, its smoothness, that it may be shifted and mirrored.

Constants of PSAQ-ViT (arXiv 2203.02250 and its published code) hold for 32 images of 224 pixels under ImageNet's
normalisation; they are scaled to other shapes so that the contrast between neighbouring pixels stays the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitptq.bench.contracts.method import InputSpec

BATCH, SIDE, SPREAD = 32, 224, 0.226
"""Images, pixels and mean channel deviation to which the published constants belong."""
VARIATION = (2500.0, 3000.0)
"""Range from which the target of total variation is drawn."""
SHIFTS = (15, 30)
"""Largest shift in pixels: in the first round, and in the later ones."""


def total_variation(images: Tensor) -> Tensor:
    """Return the sum of the Frobenius norms of the differences to the four kinds of neighbours, over the whole batch.

    `images` is (B, C, H, W); the neighbours are beside, below, and on both diagonals.
    """
    beside = images[..., :, :-1] - images[..., :, 1:]
    below = images[..., :-1, :] - images[..., 1:, :]
    diagonal = images[..., 1:, :-1] - images[..., :-1, 1:]
    other = images[..., :-1, :-1] - images[..., 1:, 1:]
    return torch.stack([difference.norm() for difference in (beside, below, diagonal, other)]).sum()


def variation_target(images: int, spec: InputSpec, generator: torch.Generator) -> float:
    """Draw the total variation that `images` images of this shape should have."""
    _, height, width = spec.shape
    drawn = VARIATION[0] + (VARIATION[1] - VARIATION[0]) * torch.rand((), generator=generator).item()
    contrast = SPREAD / (sum(spec.std) / len(spec.std))
    return drawn * math.sqrt(images * height * width / (BATCH * SIDE * SIDE)) * contrast


def largest_shift(round_: int, spec: InputSpec) -> int:
    """Return the largest shift in pixels in round `round_`, counted from 0."""
    return round(SHIFTS[min(round_, 1)] * spec.shape[1] / SIDE)


def shifted_and_mirrored(images: Tensor, limit: int, generator: torch.Generator) -> Tensor:
    """Return the batch rolled by one random offset in both directions, and mirrored with probability 1/2."""
    offset = int(torch.randint(-limit, limit + 1, (), generator=generator))
    rolled = images.roll((offset, offset), (2, 3))
    return rolled.flip(3) if torch.rand((), generator=generator).item() < 0.5 else rolled


def black_and_white(spec: InputSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the normalised values of black and white, each (channels, 1, 1)."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (spec.mean, spec.std))
    return -mean / std, (1 - mean) / std


def to_bytes(images: Tensor, spec: InputSpec) -> Tensor:
    """Return normalised images as 8-bit pixels, (B, C, H, W), uint8."""
    black, white = black_and_white(spec, images.device)
    return ((images - black) / (white - black) * 255).round().clamp(0, 255).to(torch.uint8)


def from_bytes(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Return 8-bit pixels as normalised images."""
    black, white = black_and_white(spec, pixels.device)
    return pixels.float() / 255 * (white - black) + black
