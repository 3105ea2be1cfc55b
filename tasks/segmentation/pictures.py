"""Evaluation images with what is there and what a model found, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitptq.bench.contracts.task import Drawing, Evidence, Scene
from vitptq.tasks.segmentation import label_maps
from vitptq.tasks.segmentation.evidence import MAPS
from vitptq.tasks.segmentation.label_maps import Pair


def scenes(found: Evidence, pairs: Sequence[Pair]) -> list[Scene]:
    """Return the first images, as many as the evidence has maps of."""
    return [_scene(pair, predicted) for pair, predicted in zip(pairs, found[MAPS], strict=False)]


def _scene(pair: label_maps.Pair, found: NDArray[np.uint8]) -> Scene:
    """Return a drawing of an image; class 0 is the background and stays clear."""
    labels = label_maps.read_labels(pair.labels)
    truth = np.where(np.isin(labels, label_maps.NO_LABEL), 0, labels - np.uint8(1)).astype(np.uint8)
    with Image.open(pair.image) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Scene(pair.image.stem, pixels, Drawing(truth), Drawing(found))
