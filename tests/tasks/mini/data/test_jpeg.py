"""Images as JPEG files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from vitptq.tasks.mini.data.jpeg import decode, encode


def test_a_file_has_colours_at_full_resolution_and_almost_the_same_pixels() -> None:
    ramp = np.linspace(0, 255, 32 * 32, dtype=np.uint8).reshape(32, 32)
    image = np.stack([ramp, ramp.T, 255 - ramp], axis=-1)
    content = encode(image)
    with Image.open(io.BytesIO(content)) as file:
        assert file.format == "JPEG"
        assert [component[1:3] for component in file.layer] == [(1, 1)] * 3
    assert np.abs(decode(content).astype(int) - image).mean() < 2


def test_decoding_gives_rgb_from_any_mode() -> None:
    buffer = io.BytesIO()
    Image.new("L", (3, 2), 77).save(buffer, format="PNG")
    assert decode(buffer.getvalue()).tolist() == [[[77] * 3] * 3] * 2
