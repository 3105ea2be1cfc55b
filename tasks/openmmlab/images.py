"""Images that a library's test pipeline decodes, one by one and by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vitptq.bench.errors import BadInput, VitptqError
from vitptq.tasks.checkpoints import first_line
from vitptq.tasks.image_files import refuse_truncated
from vitptq.tasks.openmmlab.libraries import Scope, library

Item = dict[str, Any]
"""What a library's test pipeline returns for one image: `inputs`, uint8 (3, H, W), and its `data_samples`."""


def dataset(config: Mapping[str, Any], scope: Scope) -> Any:
    """Return the library's data set of a config, its annotations read."""
    with library(scope) as registry, redirect_stdout(StringIO()):  # pycocotools prints its progress
        return registry.DATASETS.build(deepcopy(dict(config)))


class ImageList:
    """Listed image files behind a library's test pipeline, with the two methods of its data sets that `items` uses."""

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


def items(source: Any, indices: Sequence[int], *, workers: int) -> Iterator[Item]:
    """Yield what the pipeline of the data set `source` returns for `indices`, in this order.

    An image that cannot be read, or that ends early, raises BadInput with its name, also where a worker reads it.
    """
    if workers:
        _stop_opencv_threads()
    loader = DataLoader(
        _Items(source, indices),
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        # Without its own generator, a loader draws from the global one and so changes what a method draws later.
        generator=torch.Generator().manual_seed(0),
    )
    for item in loader:
        if isinstance(item, VitptqError):
            raise item
        yield item


class _Items(Dataset["Item | VitptqError"]):
    """Items by position; an error comes as a value: raised in a worker, it would arrive wrapped in a traceback."""

    def __init__(self, source: Any, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Item | VitptqError:
        index = self.indices[position]
        path = Path(self.source.get_data_info(index)["img_path"])
        try:
            refuse_truncated(path)
            item: Item = self.source[index]
        except VitptqError as error:
            return error
        except Exception as error:  # noqa: BLE001  OpenCV, Pillow and the pipelines each raise their own
            return BadInput(f"{path} is not a readable image ({first_line(error)}); copy or unpack this file again")
        return item


def _unchanged(item: Any) -> Any:
    return item


def _stop_opencv_threads() -> None:
    """End OpenCV's pool of threads before workers are forked: a fork has the pool but not its threads, and waits."""
    import cv2

    cv2.setNumThreads(0)
