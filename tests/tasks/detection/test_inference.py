"""Small detectors with random weights: predictions and differentiable outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.tasks.detection import coco_tree
from tests.tasks.detection.coco_tree import CPU, SmallCoco, ignore
from vitptq.bench.errors import VitptqError
from vitptq.tasks.detection import inference
from vitptq.tasks.openmmlab import images


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # mmdet, which the task silences
@pytest.mark.parametrize("cascade", [False, True])
def test_evaluation_gives_what_mmdet_predicts(root: Path, cascade: bool) -> None:
    task = SmallCoco(root, cascade=cascade)
    network = task.load("small", CPU)
    seen: list[tuple[int, int]] = []
    found = task.evaluate(network, "small", CPU, lambda *step: seen.append(step))
    assert seen == [(2, 4), (4, 4)]
    truth = task.annotations()
    source = images.ImageList([task.val / name for name in truth.names], task.pipeline, "mmdet")
    for image in range(4):
        with torch.no_grad():
            (sample,) = network.test_step({key: [value] for key, value in source[image].items()})
        own = found["images"] == image
        assert np.allclose(found["boxes"][own], sample.pred_instances.bboxes, atol=1e-3)
        assert np.allclose(found["scores"][own], sample.pred_instances.scores, atol=1e-5)
        assert found["labels"][own].tolist() == sample.pred_instances.labels.tolist()
    assert len(found["images"]) > 0
    assert task.count(found) == 4


@pytest.mark.parametrize(
    ("place", "spoil"),
    [
        ("neck", lambda levels: levels[-1][1].fill_(float("nan"))),
        ("rpn_head", lambda output: output[1][0][0].fill_(float("inf"))),
        ("roi_head.bbox_head", lambda output: output[0][0].fill_(float("nan"))),
        ("roi_head.mask_head", lambda output: output[0].fill_(float("nan"))),
    ],
)
def test_outputs_that_are_not_finite_fail_and_are_counted(
    task: SmallCoco, model: nn.Module, place: str, spoil: Callable[[Any], None]
) -> None:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        spoil(output)

    handle = model.get_submodule(place).register_forward_hook(hook)
    try:
        with pytest.raises(VitptqError, match=r"not finite .* for 2 of 4 images"):
            task.evaluate(model, "small", CPU, ignore)
    finally:
        handle.remove()
    assert task.evaluate(model, "small", CPU, ignore)


@pytest.mark.parametrize("cascade", [False, True])
def test_outputs_are_differentiable_and_their_work_does_not_depend_on_weights(cascade: bool) -> None:
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    counted = []
    for factor in (1.0, -2.0):
        network = coco_tree.detector(cascade)
        with torch.no_grad():
            network.rpn_head.rpn_reg.weight.mul_(factor)
        with FlopCounterMode(display=False) as counter:
            found = inference.outputs(network, batch)
        counted.append(counter.get_total_flops())
    stages = 3 if cascade else 1
    assert [tuple(level.shape) for level in found[:5]] == [(2, 8, side, side) for side in (16, 8, 4, 2, 1)]
    assert [tuple(one.shape) for one in found[15:]] == (
        [(100, 4)] * stages + [(100, 12)] * stages + [(40, 3, 12, 12)] * stages
    )
    assert counted[0] == counted[1] > 0
    sum(part.square().sum() for part in found).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    again = inference.outputs(network, batch)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_best_proposals_are_the_highest_scored_anchors(model: Any) -> None:
    sides = (16, 8, 4, 2, 1)
    scores = [torch.zeros(1, 2, side, side) for side in sides]
    deltas = [torch.zeros(1, 8, side, side) for side in sides]
    scores[2][0, 1, 3, 2] = 5.0  # stride 16, square anchor of 64 pixels around the cell's origin (32, 48)
    (boxes,) = inference.top_proposals(model, scores, deltas, (64, 64))
    assert len(boxes) == 50
    assert boxes[0].tolist() == [0.0, 16.0, 64.0, 64.0]
