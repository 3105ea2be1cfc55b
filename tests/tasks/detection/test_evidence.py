"""Scores from evidence, and evidence that is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.tasks.detection.coco_tree import CLASSES, Arrays, SmallCoco, guessed, guesses
from vitptq.bench.errors import BadInput
from vitptq.tasks.detection import evidence, masks


def test_scores_equal_mmdets_own_metric(task: SmallCoco, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmdet.evaluation.metrics import coco_metric

    stats: list[np.ndarray] = []

    class Recording(coco_metric.COCOeval):  # type: ignore[misc, name-defined]
        def summarize(self) -> None:
            super().summarize()
            stats.append(self.stats[:6])

    monkeypatch.setattr(coco_metric, "COCOeval", Recording)
    metric = coco_metric.CocoMetric(ann_file=str(task.annotation_file), metric=["bbox", "segm"])
    metric.dataset_meta = {"classes": CLASSES}
    truth = task.annotations()
    for result, image, size in zip(guesses(task), truth.image_ids.tolist(), truth.sizes.tolist(), strict=True):
        sample = {"pred_instances": vars(result), "img_id": image, "ori_shape": tuple(size)}
        metric.process({}, [sample])
    metric.evaluate(len(truth.names))
    names = [f"{kind}_ap{part}" for kind in ("box", "mask") for part in evidence.PARTS]
    expected = {n: 100 * v for n, v in zip(names, np.concatenate(stats).tolist(), strict=True) if v >= 0}
    scores = task.score(guessed(task))
    assert scores == pytest.approx(expected, abs=1e-6)
    assert 20 < scores["box_ap"] < scores["box_ap50"] < 100
    assert "box_ap_large" not in scores  # no object is that large


def test_both_evaluators_agree(task: SmallCoco) -> None:
    pytest.importorskip("faster_coco_eval")
    for seed in range(3):
        found = guessed(task, seed)
        fast, slow = (
            evidence.scores(found, precision)
            for precision in (evidence.faster_precision, evidence.pycocotools_precision)
        )
        assert fast == pytest.approx(slow, abs=1e-9)


def test_perfect_detections_score_100_and_none_score_0(task: SmallCoco) -> None:
    truth = task.annotations()
    objects = truth.truth
    rles = masks.unpacked(objects["truth_masks"], objects["truth_mask_lengths"])
    perfect, nothing = [], []
    for image in range(len(truth.names)):
        own = np.flatnonzero((objects["truth_images"] == image) & ~objects["truth_crowd"])
        boxes = objects["truth_boxes"][own]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
        ones = np.ones(len(own), np.float32)
        perfect.append(
            evidence.Detections(objects["truth_labels"][own], ones, corners, tuple(rles[one] for one in own))
        )
        nothing.append(evidence.Detections(np.zeros(0, np.int16), ones[:0], corners[:0], ()))
    best = task.score(evidence.evidence(truth, perfect))
    assert best == pytest.approx(dict.fromkeys(best, 100.0)) and len(best) >= 8
    assert set(task.score(evidence.evidence(truth, nothing)).values()) == {0.0}


def test_truth_is_one_per_data_set_and_not_the_models(task: SmallCoco, measured: Arrays) -> None:
    other = guessed(task)
    assert task.truth(measured) == task.truth(other)
    other["truth_boxes"] = other["truth_boxes"] + 1
    assert task.truth(measured) != task.truth(other)


def repeated(found: Arrays, times: int) -> Arrays:
    names = ("images", "labels", "scores", "boxes", "masks", "mask_lengths")
    return {name: np.concatenate([found[name]] * times) for name in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("boxes"), "evidence has image_ids, .*; expected"),
        (lambda e: e.update(more=e["boxes"]), "evidence has boxes, .*more.*; expected"),
        (lambda e: e.update(scores=e["scores"].astype(np.float64)), "scores is float64 of shape"),
        (lambda e: e.update(boxes=e["boxes"][:, :3]), r"boxes is float32 of .*; expected float32 of shape \(n, 4\)"),
        (lambda e: e.update(labels=e["labels"][1:]), "expected as many of each"),
        (lambda e: e.update(labels=e["labels"] + np.int16(3)), "labels has [345]; expected 0 to 2"),
        (lambda e: e.update(images=e["images"] - np.int32(1)), "images has -1; expected 0 to 3"),
        (lambda e: e.update(truth_images=e["truth_images"] + np.int32(4)), "truth_images has 4; expected 0 to 3"),
        (lambda e: e.update(masks=e["masks"][1:]), "masks has .* bytes"),
        (lambda e: e.update(scores=e["scores"] * np.float32("nan")), "scores has a value that is not finite"),
        (lambda e: e.update({name: e[name][:3] for name in ("image_ids", "image_sizes")}), "covers 3 images; .* has 4"),
        (lambda e: e.update(repeated(e, 60)), "more than 100 detections of one image"),
        (lambda e: e["boxes"].__setitem__((0, 2), 1e9), r"boxes has 1000000000\.0; no image here is larger than 32768"),
        (lambda e: e["truth_boxes"].__setitem__((0, 2), 1e300), r"truth_boxes has 1e\+300; no image here is larger"),
        (lambda e: e["image_ids"].__setitem__(1, e["image_ids"][0]), "image_ids has an id twice"),
        (lambda e: e["image_sizes"].__setitem__((1, 0), 0), "image_sizes has 0 to 64; expected 1 to"),
        (lambda e: e["truth_areas"].__setitem__(0, -1), "truth_areas has -1.0; areas, widths and heights"),
        (lambda e: e["truth_boxes"].__setitem__((0, 2), -1), "truth_boxes has -1.0"),
        (lambda e: e.update(masks=e["masks"] * np.uint8(0)), "masks: mask 0 is not in COCO's form of run lengths"),
        (lambda e: e.update(truth_masks=e["truth_masks"] * np.uint8(0)), "truth_masks: mask 0 is not in COCO's form"),
        (lambda e: e["image_sizes"].__setitem__((0, 1), 63), "masks: mask 0: the runs of a mask add up to 2048 pixels"),
    ],
)  # fmt: skip
def test_malformed_evidence_is_refused(task: SmallCoco, change: Callable[[Arrays], Any], message: str) -> None:
    found = {name: values.copy() for name, values in guessed(task).items()}
    change(found)
    with pytest.raises(BadInput, match=message):
        task.score(found)
