"""Class folders and decoding on small files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitptq.tasks.classification import images
from vitptq.tasks.decoding import decoded
from vitptq.tasks.image_files import read_image

CPU = torch.device("cpu")
CONFIG = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_pixels_normalised_later_equal_timms_own_transform_to_the_last_bit(tmp_path: Path, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.JPEG")
    Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)).save(tmp_path / "every value.png")
    config = {
        "input_size": (3, 224, 224), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
        "crop_pct": 0.9, "crop_mode": mode, "interpolation": "bicubic",
    }  # fmt: skip
    files = [tmp_path / "noise.JPEG", tmp_path / "every value.png"]
    (pixels,) = images.batches(decoded(images.source("test", tmp_path, files, config, 0)), 2)
    own = images.transform(config)
    assert pixels.dtype == torch.uint8
    assert torch.equal(images.Normalise(config)(pixels, CPU), torch.stack([own(read_image(file)) for file in files]))


def test_every_pixel_value_is_normalised_as_timm_does() -> None:
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    image = Image.fromarray(values[0].permute(1, 2, 0).numpy())
    config = {**CONFIG, "input_size": (3, 16, 16), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    own = images.transform(config)
    assert torch.equal(images.Normalise(config)(values, CPU)[0], own(image))


def test_models_that_differ_in_the_normalisation_alone_read_the_same_pixels(tmp_path: Path) -> None:
    ways = [
        images.source("test", tmp_path, [], {**CONFIG, "crop_mode": mode, "mean": (mean,) * 3}, 0).way
        for mode in ("center", "border")
        for mean in (0.5, 0.4)
    ]
    assert ways[0] == ways[1]
    assert ways[2] != ways[3]  # the border is painted in the mean colour


def test_a_folder_is_listed_again_when_an_image_came_or_went(tmp_path: Path) -> None:
    one, two = tmp_path / "1.png", tmp_path / "2.png"
    one.touch()
    os.utime(tmp_path, (1000, 1000))  # long ago, so that the time of the folder is believed
    assert images.image_files(tmp_path) == [one]
    two.touch()
    assert images.image_files(tmp_path) == [one, two]
    one.unlink()
    os.utime(tmp_path, (2000, 2000))
    assert images.image_files(tmp_path) == [two]
