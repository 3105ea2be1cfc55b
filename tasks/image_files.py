"""Image files of any data set: which are there, whether one is whole, and how large it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vitptq.bench.errors import BadInput, VitptqError
from vitptq.tasks.foreign_files import disguise, is_system_name, stat_of

JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG, PNG_END = b"\x89PNG", b"IEND"
TAIL_BYTES = 1024  # some cameras write a few bytes behind the end of the picture
EXTENSIONS = (".jpeg", ".jpg", ".png")
EXIF_ORIENTATION = 274
UPRIGHT = 1
QUARTER_TURNS = 5
"""The first of the orientations that exchange height and width."""

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises on damaged files, and on ones beyond its limit of pixels."""


def image_names(folder: Path, extensions: tuple[str, ...] = EXTENSIONS) -> list[str]:
    """Return the names of the images in a folder, sorted; hidden and system files are none."""
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        return sorted(name for name in names if name.lower().endswith(extensions) and not is_system_name(name))


def read_image(path: str | Path) -> Image.Image:
    """Return the image in RGB."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        raise unreadable(Path(path), error) from error


@dataclass(frozen=True, slots=True)
class StoredSize:
    """Height and width of the stored pixels, and the EXIF orientation with which viewers turn them."""

    height: int
    width: int
    orientation: int

    @property
    def turned(self) -> tuple[int, int]:
        """Return (height, width) as OpenCV decodes the image: turned by its orientation."""
        return (self.width, self.height) if self.orientation >= QUARTER_TURNS else (self.height, self.width)


def stored_size(path: Path) -> StoredSize:
    """Return the size of a whole image from its header."""
    refuse_truncated(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            return StoredSize(height, width, int(image.getexif().get(EXIF_ORIENTATION, UPRIGHT)))
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def refuse_truncated(path: Path) -> None:
    """Raise BadInput for a JPEG or PNG file that ends early: OpenCV fills what is missing with grey, without a word."""
    size = stat_of(path).st_size
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(max(0, size - TAIL_BYTES))
            tail = stream.read()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); copy or unpack this file again") from error
    for start, end in ((JPEG, JPEG_END), (PNG, PNG_END)):
        if head.startswith(start) and end not in tail:
            raise BadInput(f"{path} is not a readable image (truncated); copy or unpack this file again")


def unreadable(path: Path, error: BaseException, kind: str = "image") -> VitptqError:
    """Return the error that names a file which could not be read, and what is in its place where that is known."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        limit = f"{Image.MAX_IMAGE_PIXELS:,}" if Image.MAX_IMAGE_PIXELS else "no"
        return BadInput(
            f"{path} is not a readable {kind}: it has more pixels than Pillow's limit of {limit}; no data set here has "
            "such images, copy or unpack this file again"
        )
    reason = f"it is {found}" if (found := disguise(path)) else str(error)
    return BadInput(f"{path} is not a readable {kind} ({reason}); copy or unpack this file again")
