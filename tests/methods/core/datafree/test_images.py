"""Total variation by hand, scaled constants, movements, and 8-bit pixels."""

from __future__ import annotations

import math

import pytest
import torch

from vitptq.bench.contracts.method import InputSpec
from vitptq.methods.core.datafree.images import (
    black_and_white,
    from_bytes,
    largest_shift,
    shifted_and_mirrored,
    to_bytes,
    total_variation,
    variation_target,
)

IMAGENET = InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SMALL = InputSpec((3, 32, 32), (0.5, 0.5, 0.5), (0.452, 0.452, 0.452))


def test_total_variation_of_four_pixels() -> None:
    images = torch.tensor([[[[1.0, 4.0], [3.0, 9.0]]]])
    beside, below = math.hypot(3, 6), math.hypot(2, 5)
    assert total_variation(images).item() == pytest.approx(beside + below + 1 + 8)


def test_target_is_the_published_one_for_imagenet_and_scales_with_pixels_and_contrast() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = [variation_target(32, IMAGENET, generator) for _ in range(50)]
    assert 2500 <= min(targets) < 2550 and 2950 < max(targets) <= 3000
    generator.manual_seed(0)
    assert variation_target(32, SMALL, generator) == pytest.approx(targets[0] / 7 / 2)
    assert [largest_shift(r, IMAGENET) for r in (0, 1, 2)] == [15, 30, 30]
    assert [largest_shift(r, SMALL) for r in (0, 1)] == [2, 4]


def test_shifting_and_mirroring_keeps_every_pixel_and_uses_both_sides() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(36.0).reshape(1, 1, 6, 6)
    found = [shifted_and_mirrored(images, 1, generator) for _ in range(40)]
    assert all(torch.equal(view.flatten().sort().values, images.flatten()) for view in found)
    assert len({tuple(view.flatten().tolist()) for view in found}) == 6  # three offsets, mirrored or not


def test_eight_bit_pixels_survive_a_round_trip() -> None:
    torch.manual_seed(0)
    pixels = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(to_bytes(from_bytes(pixels, IMAGENET), IMAGENET), pixels)
    black, white = black_and_white(IMAGENET, torch.device("cpu"))
    assert torch.equal(
        to_bytes(white.expand(1, 3, 2, 2) + 1, IMAGENET), torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    )
    assert (black < 0).all()
