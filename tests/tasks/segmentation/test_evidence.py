"""Pixel counts and the scores that follow from them, against mmseg's metric."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vitptq.bench.errors import BadInput
from vitptq.tasks.segmentation import evidence

CLASSES = 7
ABSENT, UNLABELLED = 6, 5


def scenes(count: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Predictions and labels of several sizes: one class occurs nowhere, one is predicted only."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for number in range(count):
        shape = (20 + number, 31)
        labels = torch.randint(0, UNLABELLED, shape, generator=generator, dtype=torch.uint8)
        guess = torch.randint(0, ABSENT, shape, generator=generator)
        predicted = torch.where(torch.rand(shape, generator=generator) < 0.6, labels.long(), guess)
        labels[: number + 1] = evidence.IGNORED
        found.append((predicted, labels))
    return found


def counted() -> dict[str, np.ndarray]:
    return evidence.as_evidence(
        torch.stack([evidence.pixel_counts(predicted, labels, CLASSES) for predicted, labels in scenes()])
    )


def test_scores_equal_mmsegs_metric() -> None:
    metrics = pytest.importorskip("mmseg.evaluation.metrics")
    metric = metrics.IoUMetric()
    areas = [metric.intersect_and_union(predicted, labels, CLASSES, evidence.IGNORED) for predicted, labels in scenes()]
    sums = [sum(column) for column in zip(*areas, strict=True)]
    reference = {name: 100 * np.nanmean(value) for name, value in metric.total_area_to_metrics(*sums).items()}
    found = evidence.scores(counted())
    assert np.isnan(metric.total_area_to_metrics(*sums)["IoU"]).sum() == 1  # the absent class
    assert found["miou"] == pytest.approx(reference["IoU"], rel=1e-6)
    assert found["macc"] == pytest.approx(reference["Acc"], rel=1e-6)
    assert found["aacc"] == pytest.approx(reference["aAcc"], rel=1e-6)
    assert 30 < found["miou"] < found["aacc"] < 80


def test_every_resample_has_the_scores_of_its_images() -> None:
    found = counted()
    counts = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 0, 0, 4]])
    resampled = evidence.resampler(found)(counts)
    for row, one in enumerate(counts):
        expected = evidence.scores({name: np.repeat(table, one, axis=0) for name, table in found.items()})
        assert {name: values[row] for name, values in resampled.items()} == pytest.approx(expected, abs=1e-12)


def test_a_resample_without_a_labelled_pixel_has_no_score() -> None:
    empty = {name: table * np.uint32(0) for name, table in counted().items()}
    assert all(np.isnan(values).all() for values in evidence.resampler(empty)(np.ones((2, 4), np.int64)).values())


def test_scores_worked_out_by_hand() -> None:
    # class 0: 3 of 4 found and 2 claimed wrongly; class 1: 2 of 4 found, 1 claimed wrongly
    table = {"intersection": [[3, 2, 0]], "labelled": [[4, 4, 0]], "predicted": [[5, 3, 0]]}
    found = evidence.scores({name: np.array(rows, np.uint32) for name, rows in table.items()})
    assert found == {
        "miou": pytest.approx(100 * (3 / 6 + 2 / 5) / 2),
        "macc": pytest.approx(100 * (3 / 4 + 2 / 4) / 2),
        "aacc": pytest.approx(100 * 5 / 8),
    }


def test_counts_of_a_whole_image_fit_the_evidence() -> None:
    everything = torch.zeros(1, 3, 2, dtype=torch.int64)
    everything[..., 0] = 300_000_000
    found = evidence.as_evidence(everything)
    assert found["labelled"].tolist() == [[300_000_000, 0]]
    many = {name: np.repeat(table, 20, axis=0) for name, table in found.items()}  # 6e9 in all: beyond 32 bits
    assert evidence.scores(many) == {"miou": 100.0, "macc": 100.0, "aacc": 100.0}


def test_truth_depends_on_the_labels_alone() -> None:
    one, other = counted(), counted()
    other["predicted"] = other["predicted"][:, ::-1]
    assert evidence.labels_hash(one) == evidence.labels_hash(other)
    other["labelled"][0, 0] += 1
    assert evidence.labels_hash(one) != evidence.labels_hash(other)


def damaged(name: str) -> dict[str, np.ndarray]:
    found = counted()
    if name == "missing":
        del found["predicted"]
    elif name == "dtype":
        found["labelled"] = found["labelled"].astype(np.int64)
    elif name == "classes":
        found = {key: table[:, :-1] for key, table in found.items()}
    elif name == "rows":
        found["intersection"] = found["intersection"][:-1]
    elif name == "empty":
        found = {key: table[:0] for key, table in found.items()}
    elif name == "intersection":
        found["intersection"][2, 1] = found["labelled"][2, 1] + 1
    elif name == "areas":
        found["predicted"][1, 0] += 1
    elif name == "unlabelled":
        found = {key: np.zeros_like(table) for key, table in found.items()}
    return found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "evidence has intersection, labelled; expected intersection, labelled, predicted"),
        ("dtype", r"labelled is int64 of shape \(4, 7\); expected uint32, \(images, 7\)"),
        ("classes", r"intersection is uint32 of shape \(4, 6\)"),
        ("rows", "3 rows of intersection, 4 rows of labelled, 4 rows of predicted"),
        ("empty", "0 rows of intersection"),
        ("intersection", "evidence of image 2 is impossible"),
        ("areas", "evidence of image 1 is impossible"),
        ("unlabelled", "no labelled pixel"),
    ],
)
def test_malformed_evidence_is_refused(name: str, message: str) -> None:
    evidence.check(counted(), classes=CLASSES, images=4)
    with pytest.raises(BadInput, match=message):
        evidence.check(damaged(name), classes=CLASSES, images=None)


def test_evidence_of_part_of_the_images_is_refused() -> None:
    with pytest.raises(BadInput, match="covers 4 images; the evaluation set has 2000"):
        evidence.check(counted(), classes=CLASSES, images=2000)
