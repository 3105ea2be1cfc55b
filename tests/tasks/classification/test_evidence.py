"""The evidence of classification on small arrays."""

from __future__ import annotations

import numpy as np
import pytest

from vitptq.bench.errors import BadInput
from vitptq.tasks.classification.imagenet import ImageNet


def evidence(predictions: list[int], labels: list[int], dtype: type = np.int16) -> dict[str, np.ndarray]:
    return {"predictions": np.array(predictions, dtype), "labels": np.array(labels, dtype)}


@pytest.fixture
def three_classes() -> ImageNet:
    return ImageNet(classes=3, images=None)


def test_score_is_the_share_of_correct_predictions(three_classes: ImageNet) -> None:
    found = evidence([0, 1, 2, 0], [0, 1, 2, 2])
    assert three_classes.score(found) == {"top1": 75.0}
    assert three_classes.count(found) == 4


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"predictions": np.zeros(2, np.int16)}, "evidence has predictions; expected labels, predictions"),
        (evidence([0, 1], [0]), "2 predictions for 1 labels"),
        (evidence([], []), "0 predictions"),
        (evidence([0, 3], [0, 1]), "predictions has class 3; classes are 0 to 2"),
        (evidence([0, 1], [0, -1]), "labels has class -1"),
        (evidence([0, 1], [0, 1], np.int64), "int64 of shape (2,); expected int16"),
    ],
)
def test_malformed_evidence_is_refused(three_classes: ImageNet, found: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(BadInput) as error:
        three_classes.score(found)
    assert message in str(error.value)


def test_evidence_of_part_of_the_images_is_refused() -> None:
    with pytest.raises(BadInput, match="covers 2 images; the evaluation set has 5"):
        ImageNet(classes=3, images=5).score(evidence([0, 1], [0, 1]))
