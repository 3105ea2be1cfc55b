"""Images in class folders: which are there, and what timm's evaluation transform makes of them."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.decoding import Decoded, ImageSource
from vitptq.tasks.foreign_files import is_system_name
from vitptq.tasks.image_files import image_names, read_image

SHOWN = 3
PIXELS = "pixels"
SETTLED_NS = 2 * 10**9
"""Age from which the time of a folder tells that nothing came or went: clocks of file systems are coarse."""


def class_folders(split: Path, missing: str, classes: int, names: Sequence[str] = ()) -> list[Path]:
    """Return the class folders, sorted: a class's index is its place here, so one too many would shift the others.

    Hidden and system folders are no classes. `names`, where they are known, are those of the `classes` folders;
    otherwise their number is compared.
    """
    if not split.is_dir():
        raise Missing(f"{split} is not there. {missing}")
    found = _folder_names(split)
    if names and found != sorted(names):
        raise BadInput(f"{split} has {_difference(found, names)}: {_step(split)}")
    if len(found) != classes:
        strange = f" ({_some(_strangest(found))})" if len(found) > classes else ""
        raise BadInput(
            f"{split} has {len(found)} class folders{strange}, the models have {classes} classes: {_step(split)}"
        )
    return [split / name for name in found]


def refuse_other_classes(split: Path, other: Path) -> None:
    """Raise BadInput where two splits have different class folders; each one's sorted names are the labels."""
    ours, theirs = _folder_names(split), _folder_names(other)
    if ours != theirs:
        raise BadInput(f"{split} has {_difference(ours, theirs)}, compared with {other}: {_step(split)}")


def _folder_names(split: Path) -> list[str]:
    with os.scandir(split) as entries:  # which knows folders without asking for each
        return sorted(entry.name for entry in entries if not is_system_name(entry.name) and entry.is_dir())


def _difference(found: Sequence[str], expected: Sequence[str]) -> str:
    """Say which folders are too many and which are not there; there is a difference."""
    strange, absent = sorted(set(found) - set(expected)), sorted(set(expected) - set(found))
    parts = [f"{len(strange)} class folders too many ({_some(strange)})"] if strange else []
    parts += [f"no folder for {len(absent)} classes ({_some(absent)})"] if absent else []
    return " and ".join(parts)


def _strangest(names: Sequence[str]) -> list[str]:
    """Return the names that are formed as no other is, digits aside; all where none stands out."""
    forms = Counter(re.sub(r"\d+", "0", name) for name in names)
    usual, _ = forms.most_common(1)[0]
    return [name for name in names if re.sub(r"\d+", "0", name) != usual] or list(names)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _step(split: Path) -> str:
    return f"each class needs its own folder, {split}/<class>/*.JPEG, and nothing else may lie beside them"


def image_files(folder: Path) -> list[Path]:
    """Return the images of a class folder, sorted by name; it is listed again when anything came or went."""
    changed = folder.stat().st_mtime_ns
    if time.time_ns() - changed < SETTLED_NS:
        return _listed.__wrapped__(folder, changed)
    return list(_listed(folder, changed))


@lru_cache(maxsize=4096)
def _listed(folder: Path, changed: int) -> list[Path]:
    """Return the images of a folder as it was at a time in nanoseconds."""
    return [folder / name for name in image_names(folder)]


def resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the data config with timm's defaults filled in."""
    complete: dict[str, Any] = resolve_data_config(pretrained_cfg=config)
    return complete


def input_spec(config: dict[str, Any]) -> InputSpec:
    """Return shape and normalisation of the model's input."""
    complete = resolved(config)
    return InputSpec(tuple(complete["input_size"]), tuple(complete["mean"]), tuple(complete["std"]))


def transform(config: dict[str, Any]) -> Callable[[Image.Image], Tensor]:
    """Return timm's evaluation transform of the data config: floats (channels, H, W), normalised."""
    steps: Callable[[Image.Image], Tensor] = create_transform(**resolved(config), is_training=False)
    return steps


def pixel_transform(config: dict[str, Any]) -> Callable[[Image.Image], Tensor]:
    """Return what timm's evaluation transform does before it makes floats of the pixels: uint8 (channels, H, W)."""
    steps: Callable[[Image.Image], Tensor] = create_transform(**resolved(config), is_training=False, normalize=False)
    return steps


class Normalise:
    """Make of uint8 pixels what timm's evaluation transform makes of the image, to the last bit, on any device."""

    def __init__(self, config: dict[str, Any]) -> None:
        complete = resolved(config)
        self._mean = torch.tensor(complete["mean"])[:, None, None]
        self._std = torch.tensor(complete["std"])[:, None, None]
        self._largest = torch.tensor([255.0])  # by a number, a GPU would multiply with 1 / 255 instead

    def __call__(self, pixels: Tensor, device: torch.device) -> Tensor:
        """Return floats (images, channels, H, W) on the device."""
        largest, mean, std = (values.to(device) for values in (self._largest, self._mean, self._std))
        return pixels.to(device, non_blocking=True).float().div_(largest).sub_(mean).div_(std)


def source(name: str, root: Path, files: Sequence[Path], config: dict[str, Any], decoders: int) -> ImageSource:
    """Return the files as timm's evaluation transform of the data config reads them."""
    complete = resolved(config)
    left_out = {"std"} if complete.get("crop_mode") == "border" else {"mean", "std"}  # whose border has the mean colour
    return ImageSource(
        name=name, root=root, files=[(file,) for file in files], decoders=decoders,
        reading={key: value for key, value in complete.items() if key not in left_out},
        bytes_each=int(np.prod(complete["input_size"])), reader=partial(_Reader, files, config),
    )  # fmt: skip


class _Reader:
    """Decodes the file at a position."""

    def __init__(self, files: Sequence[Path], config: dict[str, Any]) -> None:
        self._files = [str(file) for file in files]
        self._steps = pixel_transform(config)

    def __call__(self, position: int) -> Decoded:
        return Decoded({PIXELS: self._steps(read_image(self._files[position])).numpy()})


def batches(images: Iterable[Decoded], size: int, *, pin_memory: bool = False) -> Iterator[Tensor]:
    """Yield the pixels of the images, `size` at a time: uint8 (images, channels, H, W)."""
    iterator = iter(images)
    while batch := [image.arrays[PIXELS] for image in islice(iterator, size)]:
        pixels = torch.from_numpy(np.stack(batch))
        yield pixels.pin_memory() if pin_memory else pixels
