"""Image files of any data set: which are there, and whether one is whole."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from vitptq.bench.errors import BadInput

JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG, PNG_END = b"\x89PNG", b"IEND"
TAIL_BYTES = 1024  # some cameras write a few bytes behind the end of the picture
EXTENSIONS = (".jpeg", ".jpg", ".png")


def image_names(folder: Path, extensions: tuple[str, ...] = EXTENSIONS) -> list[str]:
    """Return the names of the images in a folder, sorted; hidden files are none."""
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        return sorted(name for name in names if name.lower().endswith(extensions) and not name.startswith("."))


def read_image(path: str | Path) -> Image.Image:
    """Return the image in RGB."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged files
        raise BadInput(f"{path} is not a readable image ({error}); copy or unpack this file again") from error


def refuse_truncated(path: Path) -> None:
    """Raise BadInput for a JPEG or PNG file that ends early: OpenCV fills what is missing with grey, without a word."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = stream.read()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); copy or unpack this file again") from error
    for start, end in ((JPEG, JPEG_END), (PNG, PNG_END)):
        if head.startswith(start) and end not in tail:
            raise BadInput(f"{path} is not a readable image (truncated); copy or unpack this file again")
