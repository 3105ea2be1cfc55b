"""A small segmenter: scores as mmseg's, and outputs for methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tasks.segmentation.ade20k_tree import (
    CLASSES,
    CPU,
    NAME,
    VALIDATION,
    Disk,
    evaluated,
    task,
)
from vitptq.bench.errors import VitptqError
from vitptq.tasks.openmmlab import libraries, models
from vitptq.tasks.segmentation import images

pytestmark = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")


def test_scores_equal_mmsegs_own_evaluation(published: Disk, model: nn.Module) -> None:
    from mmseg.evaluation.metrics import IoUMetric

    ade20k = task(published)
    found = evaluated(ade20k, model)
    metric = IoUMetric()
    metric.dataset_meta = {"classes": tuple(map(str, range(CLASSES)))}
    source = images.dataset(ade20k.dataset_config(NAME), ade20k.folder, "validation")
    prepare = models.preprocessor(ade20k.config(NAME), "mmseg", CPU)
    for index in range(len(source)):
        item = source[index]
        data = prepare({"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}, False)
        with torch.no_grad():
            predicted = model(data["inputs"], data["data_samples"], mode="predict")
        metric.process({}, [sample.to_dict() for sample in predicted])
    areas = [sum(column) for column in zip(*metric.results, strict=True)]
    reference = metric.total_area_to_metrics(*areas)
    scores = ade20k.score(found)
    for name, theirs in (("miou", "IoU"), ("macc", "Acc"), ("aacc", "aAcc")):
        assert scores[name] == pytest.approx(100 * np.nanmean(reference[theirs]), rel=1e-6)
    assert scores["aacc"] > 5
    assert ade20k.count(found) == VALIDATION


def test_outputs_for_methods_are_differentiable(published: Disk, model: nn.Module) -> None:
    ade20k = task(published)
    example = ade20k.example(NAME, CPU)
    assert example.shape == (1, 3, 32, 32)
    *features, logits = ade20k.forward(model, example)
    assert [tuple(one.shape) for one in features] == [(1, 8, 16, 16), (1, 16, 8, 8), (1, 32, 4, 4), (1, 64, 2, 2)]
    assert logits.shape == (1, CLASSES, 16, 16)
    weight = model.backbone.stages[0].blocks[0].attn.w_msa.qkv.weight
    (gradient,) = torch.autograd.grad(logits.sum(), weight)
    assert gradient.abs().sum() > 0


class NotFinite(nn.Module):
    """A segmenter with NaN in the logits of the first image of each batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, samples: list[Any], mode: str) -> list[Any]:
        found = self.network(inputs, samples, mode=mode)
        found[0].seg_logits.data[2, 3, 3] = float("nan")
        return found


def test_logits_that_are_not_finite_fail_and_are_counted(published: Disk, model: nn.Module) -> None:
    with pytest.raises(VitptqError, match=r"not finite \(NaN or infinite\) for 4 of 5 images"):
        evaluated(task(published), NotFinite(model))
