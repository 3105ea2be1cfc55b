"""Images in class folders: which are there, and what timm's evaluation transform makes of them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.errors import BadInput, Missing, VitptqError
from vitptq.tasks.file_task import set_aside, state_of
from vitptq.tasks.foreign_files import is_system_name
from vitptq.tasks.image_files import image_names, read_image

SHOWN = 3

Transform = Callable[[Image.Image], Tensor]


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
    """Return the images of a class folder, sorted by name."""
    return [folder / name for name in image_names(folder)]


def resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the data config with timm's defaults filled in."""
    complete: dict[str, Any] = resolve_data_config(pretrained_cfg=config)
    return complete


def transform(config: dict[str, Any]) -> Transform:
    """Return timm's evaluation transform of the data config."""
    steps: Transform = create_transform(**resolved(config), is_training=False)
    return steps


def input_spec(config: dict[str, Any]) -> InputSpec:
    """Return shape and normalisation of the model's input."""
    complete = resolved(config)
    return InputSpec(tuple(complete["input_size"]), tuple(complete["mean"]), tuple(complete["std"]))


def decoded_bytes(images: int, config: dict[str, Any]) -> int:
    """Return the size of so many decoded images."""
    return images * 4 * int(np.prod(input_spec(config).shape))


def decoded(
    files: Sequence[Path], steps: Transform, *, batch_size: int, workers: int, pin_memory: bool = False
) -> Iterator[Tensor]:
    """Yield the images in order, `batch_size` at a time; an unreadable one raises an error that names it."""
    loader = DataLoader(
        ImageFiles(files, steps),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        # Without its own generator, a loader draws from the global one and so changes what a method draws later.
        generator=torch.Generator().manual_seed(0),
    )
    for batch in loader:
        if isinstance(batch, VitptqError):
            raise batch
        yield batch


class ImageFiles(Dataset["Tensor | VitptqError"]):
    """Images by position.

    An unreadable one comes as the error: raised in a worker process, it would arrive wrapped in a traceback.
    """

    def __init__(self, files: Sequence[Path], steps: Transform) -> None:
        """Read nothing yet."""
        self.files = [str(file) for file in files]
        self.steps = steps

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | VitptqError:
        try:
            return self.steps(read_image(self.files[index]))
        except VitptqError as error:
            return error


def decoded_once(files: Sequence[Path], config: dict[str, Any], batch_size: int, workers: int) -> Tensor:
    """Return all images in one tensor, the same one while neither the files nor the config change.

    One set is kept per process: the cells of one task come one after the other.
    """
    key = state_of(files, resolved(config))
    if key not in _DECODED:
        _DECODED.clear()
        _DECODED[key] = torch.cat(list(decoded(files, transform(config), batch_size=batch_size, workers=workers)))
    return _DECODED[key]


_DECODED: dict[str, Tensor] = {}


def drop_decoded() -> None:
    """Drop what `decoded_once` keeps."""
    _DECODED.clear()


def decoded_set_aside() -> AbstractContextManager[None]:
    """Keep what `decoded_once` keeps out of this module inside."""
    return set_aside(_DECODED)


def _collate(items: list[Tensor | VitptqError]) -> Tensor | VitptqError:
    images = []
    for item in items:
        if isinstance(item, VitptqError):
            return item
        images.append(item)
    return torch.stack(images)
