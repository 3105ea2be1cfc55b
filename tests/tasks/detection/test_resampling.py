"""Average precision of resampled images, against scoring each resample in full."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tasks.detection.coco_tree import Arrays, SmallCoco, guessed
from vitptq.tasks.detection import evidence, masks, resampling

IMAGE_ARRAYS = ("image_ids", "image_sizes")
PARTS = {"truth_": ("labels", "boxes", "areas", "crowd"), "": ("labels", "scores", "boxes")}


def drawn(found: Arrays, counts: list[int]) -> Arrays:
    """Return the evidence in which each image stands as often as it was drawn."""
    images = np.repeat(np.arange(len(counts)), counts)
    result = {name: found[name][images] for name in IMAGE_ARRAYS}
    for prefix, names in PARTS.items():
        places = [np.flatnonzero(found[f"{prefix}images"] == image) for image in images]
        chosen = np.concatenate(places)
        rles = masks.unpacked(found[f"{prefix}masks"], found[f"{prefix}mask_lengths"])
        result |= {f"{prefix}{name}": found[f"{prefix}{name}"][chosen] for name in names}
        result[f"{prefix}images"] = np.repeat(np.arange(len(images), dtype=np.int32), [len(p) for p in places])
        packed = masks.packed([rles[i] for i in chosen])
        result |= {f"{prefix}masks": packed[0], f"{prefix}mask_lengths": packed[1]}
    return result


@pytest.mark.parametrize("seed", range(3))
def test_every_resample_has_the_scores_of_its_images_scored_in_full(task: SmallCoco, seed: int) -> None:
    found = guessed(task, seed)
    # where scores tie, the order of an image's copies would matter: a resample keeps copies of one detection together
    found["scores"] = found["scores"] + np.linspace(0, 1e-3, len(found["scores"]), dtype=np.float32)
    counts = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 3, 0, 1], [1, 0, 0, 3], [4, 0, 0, 0]])
    resampled = task.resampler(found)(counts)
    assert set(resampled) == {"box_ap", "mask_ap"}
    for row, one in enumerate(counts.tolist()):
        expected = evidence.scores(drawn(found, one), evidence.pycocotools_precision)
        for name, values in resampled.items():
            assert values[row] == pytest.approx(expected[name], abs=1e-9)


def test_drawing_every_image_once_gives_the_score(task: SmallCoco) -> None:
    found = guessed(task)
    once = task.resampler(found)(np.ones((1, 4), np.int64))
    scores = task.score(found)
    assert {name: values.item() for name, values in once.items()} == {
        name: pytest.approx(scores[name], abs=1e-9) for name in once
    }


def test_resamples_do_not_depend_on_how_many_are_held_at_once(task: SmallCoco, monkeypatch: pytest.MonkeyPatch) -> None:
    found = guessed(task)
    counts = np.random.default_rng(0).integers(0, 3, size=(20, 4))
    together = task.resampler(found)(counts)
    monkeypatch.setattr(resampling, "NUMBERS_AT_A_TIME", 1)
    for name, values in task.resampler(found)(counts).items():
        assert np.array_equal(values, together[name], equal_nan=True)


def test_a_resample_without_objects_has_no_score(task: SmallCoco) -> None:
    (value,) = task.resampler(guessed(task))(np.zeros((1, 4), np.int64))["box_ap"]
    assert np.isnan(value)


def test_recalls_are_counted_as_comparing_each_would() -> None:
    recall = np.array([[right / objects] for objects in range(1, 60) for right in range(objects + 1)])
    expected = (recall >= resampling.RECALLS).sum(axis=1)
    assert np.array_equal(resampling._recalls_reached(recall)[:, 0], expected)
