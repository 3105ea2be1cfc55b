"""Images that a library's test pipeline decodes, and what is kept of them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitptq.bench.errors import BadInput, VitptqError
from vitptq.tasks.checkpoints import first_line
from vitptq.tasks.decoding import Decoded, Reader
from vitptq.tasks.image_files import refuse_truncated
from vitptq.tasks.openmmlab.libraries import Scope, library, require

PIXELS, LABELS = "pixels", "labels"

Item = dict[str, Any]
"""What a library's test pipeline returns for one image: `inputs`, uint8 (3, H, W), and its `data_samples`."""


def dataset(config: Mapping[str, Any], scope: Scope) -> Any:
    """Return the library's data set of a config, its annotations read."""
    with library(scope) as registry, redirect_stdout(StringIO()):  # pycocotools prints its progress
        return registry.DATASETS.build(deepcopy(dict(config)))


class ImageList:
    """Listed image files behind a library's test pipeline, with the two methods of its data sets that `decode` uses."""

    def __init__(self, files: Sequence[Path], pipeline: Sequence[Mapping[str, Any]], scope: Scope) -> None:
        """Read nothing yet."""
        with library(scope):
            from mmengine.dataset import Compose

            self._steps = Compose([dict(step) for step in pipeline])
        self._files = [str(file) for file in files]

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return what the pipeline starts from."""
        return {"img_path": self._files[index], "img_id": index}

    def __getitem__(self, index: int) -> Item:
        item: Item = self._steps(self.get_data_info(index))
        return item


def reader(source: Any, order: Sequence[int] | None = None) -> Reader:
    """Return what decodes the image at a position of the data set `source`, or at one of `order`."""
    return partial(decode, source) if order is None else lambda position: decode(source, order[position])


def decode(source: Any, index: int) -> Decoded:
    """Return what the pipeline of the data set `source` makes of one image.

    BadInput names an image that cannot be read, or that ends early.
    """
    path = Path(source.get_data_info(index)["img_path"])
    try:
        refuse_truncated(path)
        return from_item(source[index])
    except VitptqError:
        raise
    except Exception as error:  # OpenCV, Pillow and the pipelines each raise their own
        raise BadInput(
            f"{path} is not a readable image ({first_line(error)}); copy or unpack this file again"
        ) from error


def from_item(item: Item) -> Decoded:
    """Return an item without its library's types; label maps are uint8, of which mmseg makes 8 bytes each."""
    sample = item["data_samples"]
    arrays = {PIXELS: item["inputs"].numpy()}
    if "gt_sem_seg" in sample:
        arrays[LABELS] = sample.gt_sem_seg.data.to(torch.uint8).numpy()
    return Decoded(arrays, _plain(sample.metainfo))


def as_item(image: Decoded, scope: Scope) -> Item:
    """Return the item that `from_item` was given."""
    require(scope)
    from mmengine.structures import PixelData

    module = importlib.import_module(f"{scope}.structures")
    sample = (module.DetDataSample if scope == "mmdet" else module.SegDataSample)(metainfo=_with_tuples(image.facts))
    if LABELS in image.arrays:
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(image.arrays[LABELS].copy()))
    # a copy, because what is mapped from a file must not be written to
    return {"inputs": torch.from_numpy(image.arrays[PIXELS].copy()), "data_samples": sample}


def _plain(value: Any) -> Any:
    """Return JSON values: tuples become lists, and NumPy's numbers Python's."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_tuples(entry) for key, entry in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
