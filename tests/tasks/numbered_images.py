"""A source whose images hold their own number, and which counts what it decodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitptq.bench.errors import BadInput
from vitptq.tasks.decoding import Decoded, ImageSource

HEIGHT = WIDTH = 4


class Numbers:
    """Decodes the image at a position into its number, and lists which were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, position: int) -> Decoded:
        self.asked.append(position)
        return Decoded({"pixels": np.full((HEIGHT, WIDTH), position % 256, np.uint8)}, {"number": position})


class UnreadableAt(Numbers):
    """Cannot read one image."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position

    def __call__(self, position: int) -> Decoded:
        if position == self.position:
            raise BadInput(f"image {position} is not readable")
        return super().__call__(position)


def numbered(
    folder: Path, count: int, *, decoders: int = 0, reader: Callable[[int], Decoded] | None = None, way: str = "plain"
) -> ImageSource:
    """Return a source of `count` images; with decoders, its images count as large enough for them."""
    files = [(folder / f"{number}.bin",) for number in range(count)]
    for (file,) in files:
        if not file.exists():
            file.write_bytes(b"image")
    return ImageSource(
        name="numbered", root=folder, files=files, reading=way, decoders=decoders,
        bytes_each=10**7 if decoders else HEIGHT * WIDTH, reader=lambda: reader or Numbers(),
    )  # fmt: skip
