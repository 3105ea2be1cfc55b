"""Generated images kept beside the evidence, and read back from there."""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import keep_images, note, note_details
from vitptq.bench.errors import BadInput, Missing
from vitptq.methods.core.datafree.images import from_bytes, to_bytes

NAME = "generated"


def generated_or_kept(kept: str, given: DataFree, draw: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Return the batches that `draw` generates, or those in the file `kept`; either way they go beside the evidence.

    The record gets the seconds that generation took.
    """
    if kept:
        batches = read(kept, given)
        note("calibrated with images that were generated earlier")
    else:
        started = time.perf_counter()
        batches = draw()
        note_details("generation_s", round(time.perf_counter() - started, 3))
    pixels = torch.stack([to_bytes(batch, given.input) for batch in batches])
    keep_images(NAME, pixels.permute(0, 1, 3, 4, 2).cpu().numpy())
    return batches


def read(kept: str, given: DataFree) -> list[Tensor]:
    """Return the batches of an .npz written by an earlier run, normalised for this model."""
    path = Path(kept)
    if not path.is_file():
        raise Missing(f"{kept} is not there; name a file of kept images, such as results/evidence/ID.generated.npz")
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as arrays:  # np.load takes other files, too
            pixels = torch.from_numpy(arrays[NAME])
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, OSError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{kept} holds no generated images ({error}); name a file that an earlier run kept") from None
    size = tuple(pixels.shape[2:])
    height, width = given.input.shape[1:]
    if pixels.dtype != torch.uint8 or pixels.ndim != 5 or size != (height, width, 3):
        raise BadInput(f"{kept} holds images of shape {size}; the model reads {(height, width, 3)}")
    return [from_bytes(batch.permute(0, 3, 1, 2).to(given.device), given.input) for batch in pixels]
