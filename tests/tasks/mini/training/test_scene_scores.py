"""Scores on scenes in memory, with models that know the answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from vitptq.tasks.mini.data.scenes import scenes
from vitptq.tasks.mini.training.scene_scores import scores_on

CPU = torch.device("cpu")
SCENES = tuple(scenes("train", 3))


class Knowing(nn.Module):
    """Answers with what the samples carry, the labels moved by `shift`."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def predict(self, inputs: Tensor, samples: list[Any]) -> list[Any]:
        return [self._segmented(one) if hasattr(one, "gt_sem_seg") else self._detected(one) for one in samples]

    def _segmented(self, sample: Any) -> Any:
        return SimpleNamespace(pred_sem_seg=SimpleNamespace(data=(sample.gt_sem_seg.data + self.shift) % 11))

    def _detected(self, sample: Any) -> Any:
        from mmengine.structures import InstanceData

        truth = sample.gt_instances
        found = InstanceData(
            bboxes=truth.bboxes,
            labels=(truth.labels + self.shift) % 10,
            scores=torch.ones(len(truth.labels)),
            masks=torch.from_numpy(truth.masks.masks.astype(bool)),
        )
        return SimpleNamespace(pred_instances=found)


@pytest.mark.parametrize("task", ["coco", "ade20k"])
def test_a_model_that_knows_the_answers_scores_100(task: Any) -> None:
    assert set(scores_on(Knowing(0), task, SCENES, CPU, batch=2).values()) == {100.0}


@pytest.mark.parametrize("task", ["coco", "ade20k"])
def test_a_model_that_calls_everything_by_another_name_scores_near_0(task: Any) -> None:
    assert max(scores_on(Knowing(1), task, SCENES, CPU, batch=2).values()) < 40
