"""Contact sheets: a few of the images that a method made, as one small picture inside the run's page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitptq.bench.board.rows import Row
from vitptq.bench.errors import VitptqError
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.record import EvidenceRef
from vitptq.bench.results.store import Store

COLUMNS, ROWS = 8, 2
SIDE = 64
"""Longest side of an image on the sheet, in pixels; larger ones are reduced."""
GAP = 1


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """Some of the images of one file; `address` is a data address of a PNG."""

    name: str
    file: str
    sha256: str
    images: int
    shown: int
    size: tuple[int, int]
    """Height and width of an image as the model saw it."""
    address: str
    width: int
    height: int


def contact_sheets(row: Row, folders: Folders | None) -> tuple[ContactSheet, ...]:
    """Return the sheets of the row's first counted seed; none where no images were kept or their files are not here."""
    if folders is None or not row.counted:
        return ()
    record = row.counted[0]
    images = sorted(record.details.method.images.items())
    found = (_contact_sheet(name, ref, folders.store_of(record)) for name, ref in images)
    return tuple(sheet for sheet in found if sheet is not None)


def _contact_sheet(name: str, ref: EvidenceRef, store: Store) -> ContactSheet | None:
    try:
        images = store.evidence(ref).get(name)
    except VitptqError:  # a page without pictures still tells everything
        return None
    if images is None or images.dtype != np.uint8 or images.ndim != 5 or images.shape[-1] != 3 or not images.size:
        return None
    flat = images.reshape(-1, *images.shape[2:])
    chosen = flat[np.linspace(0, len(flat) - 1, min(len(flat), COLUMNS * ROWS)).round().astype(int)]
    picture = _arranged([_thumbnail(image) for image in chosen])
    return ContactSheet(
        name, ref.file, ref.sha256, images=len(flat), shown=len(chosen), size=(images.shape[2], images.shape[3]),
        address=_png(picture), width=picture.width, height=picture.height,
    )  # fmt: skip


def _thumbnail(image: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _arranged(pictures: list[Image.Image]) -> Image.Image:
    width, height = pictures[0].width + GAP, pictures[0].height + GAP
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGBA", (columns * width - GAP, rows * height - GAP))  # gaps show the page, dark or light
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place % columns * width, place // columns * height))
    return sheet


def _png(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
