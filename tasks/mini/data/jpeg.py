"""Images of the embedded editions as JPEG files: how they are encoded is part of the data's definition."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from vitptq.tasks.mini.data.material import Bytes


def encode(image: Bytes) -> bytes:
    """Return the image as the content of a JPEG file: quality 95, colours at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def decode(content: bytes) -> Bytes:
    """Return the pixels (H, W, 3) of an image file's content."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))
