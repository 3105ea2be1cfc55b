"""Pictures of images with labels and what a segmenter found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.tasks.segmentation.ade20k_tree import CLASSES, SIZES, write_tree
from vitptq.tasks.segmentation import label_maps, pictures
from vitptq.tasks.segmentation.evidence import MAPS


def test_pictures_have_the_labels_counted_from_zero_and_nothing_where_there_is_none(tmp_path: Path) -> None:
    pairs = label_maps.pairs(write_tree(tmp_path, validation=3), "validation", "")
    found = np.full((1, *SIZES[0]), 2, np.uint8)
    (scene,) = pictures.scenes({MAPS: found}, pairs)
    labels = label_maps.read_labels(pairs[0].labels)
    assert scene.title == "ADE_val_00000001" and scene.image.shape == (*SIZES[0], 3)
    assert np.array_equal(scene.found.classes, found[0])
    assert (scene.truth.classes[np.isin(labels, (0, 255))] == 0).all()
    shown = ~np.isin(labels, (0, 255))
    assert np.array_equal(scene.truth.classes[shown], labels[shown] - 1)
    assert scene.truth.classes.max() < CLASSES
