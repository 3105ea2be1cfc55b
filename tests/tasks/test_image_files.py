"""Image files that are damaged, or of another kind than the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitptq.bench.errors import BadInput
from vitptq.tasks.image_files import read_image


def test_truncated_image_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.JPEG"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"cut\.JPEG is not a readable image .*truncated"):
        read_image(str(file))


def test_grey_image_becomes_rgb(tmp_path: Path) -> None:
    Image.new("L", (9, 9), 77).save(tmp_path / "grey.JPEG")
    assert read_image(str(tmp_path / "grey.JPEG")).mode == "RGB"
