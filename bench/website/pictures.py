"""Evaluation scenes for people to look at: the image, what is there, what the float and the quantised model found.

Everything is inside the page: a small JPEG, a palette PNG of the classes over it, and boxes as vector graphics.
"""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitptq.bench import registry
from vitptq.bench.board.rows import Row
from vitptq.bench.contracts.task import Drawing, Scene
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.record import Record

JPEG_QUALITY = 85
OPACITY = 120
"""Of the painted classes, of 255."""
GOLDEN_ANGLE = 0.381966
"""Share of the colour circle between one class and the next: neighbours in number are far apart in hue."""


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled rectangle, in pixels of the image."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One drawing over its image; `photograph` and `classes` are data addresses."""

    caption: str
    width: int
    height: int
    photograph: str
    classes: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The panels of one scene, side by side."""

    title: str
    panels: tuple[Panel, ...]


def views(row: Row, floats: Sequence[Row], folders: Folders | None) -> tuple[View, ...]:
    """Return the scenes of a row's first counted seed beside those of the float model; none where there are none."""
    if folders is None or not row.counted:
        return ()
    found = scenes(row.counted[0], folders)
    reference = _reference(floats[0].counted[0], folders) if floats and floats[0].counted and not row.is_float else ()
    name = "Float model" if row.is_float else f"{row.label}, {row.cell.bits}"
    beside = {scene.title: scene for scene in reference}
    return tuple(_view(scene, beside.get(scene.title), name) for scene in found)


def scenes(record: Record, folders: Folders) -> Sequence[Scene]:
    """Return what the task draws from a record's evidence; nothing where evidence, images or task are not here."""
    if record.evidence is None:
        return ()
    try:
        return registry.task(record.cell.task, record.cell.edition).scenes(folders.evidence(record, record.evidence))
    except Exception:  # noqa: BLE001  a task's own code on evidence of any origin; a page without pictures still tells all
        return ()


def _reference(record: Record, folders: Folders) -> Sequence[Scene]:
    """Return the float model's scenes, which stand on every page of its table: the last are remembered."""
    before, found = _last_reference.get(folders, ("", ()))
    if before != record.id:
        found = scenes(record, folders)
        _last_reference[folders] = record.id, found
    return found


_last_reference: WeakKeyDictionary[Folders, tuple[str, Sequence[Scene]]] = WeakKeyDictionary()


def _view(scene: Scene, reference: Scene | None, name: str) -> View:
    drawings = [("Ground truth", scene.truth)]
    if reference is not None:
        drawings.append(("Float model", reference.found))
    drawings.append((name, scene.found))
    return View(scene.title, tuple(_panel(caption, scene.image, drawing) for caption, drawing in drawings))


def _panel(caption: str, image: NDArray[np.uint8], drawing: Drawing) -> Panel:
    height, width = image.shape[:2]
    boxes = tuple(
        Box(round(x, 1), round(y, 1), round(w, 1), round(h, 1), label)
        for (x, y, w, h), label in zip(drawing.boxes, drawing.labels, strict=True)
    )
    return Panel(caption, width, height, _photograph(image), _painted(drawing.classes), boxes)


def _photograph(image: NDArray[np.uint8]) -> str:
    return _jpeg(image.tobytes(), image.shape[0], image.shape[1])


@cache
def _jpeg(pixels: bytes, height: int, width: int) -> str:
    # the same few images are on every run's page
    buffer = io.BytesIO()
    Image.frombytes("RGB", (width, height), pixels).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return _address("jpeg", buffer)


def _painted(classes: NDArray[np.uint8]) -> str:
    """Return the class map as a palette PNG in which class 0 is clear."""
    picture = Image.fromarray(classes, mode="P")
    picture.putpalette([channel for index in range(256) for channel in colour(index)])
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", transparency=bytes([0] + [OPACITY] * 255), optimize=True)
    return _address("png", buffer)


@cache
def colour(index: int) -> tuple[int, int, int]:
    """Return the red, green and blue of a class, 0 to 255."""
    red, green, blue = colorsys.hsv_to_rgb((index * GOLDEN_ANGLE) % 1.0, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def _address(kind: str, buffer: io.BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
