"""Predictions of classifiers on fake models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.errors import BadInput, VitptqError
from vitptq.tasks.classification.inference import predict

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """Two logits: how dark, how bright."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean(dim=(1, 2, 3))
        return torch.stack([-level, level], dim=1)


def ignore(_done: int, _total: int) -> None:
    pass


def test_predict_reports_progress_and_leaves_train_mode() -> None:
    model = Brightness().train()
    seen: list[tuple[int, int]] = []
    batches = [torch.ones(2, 3, 4, 4), -torch.ones(1, 3, 4, 4)]
    found = predict(model, batches, total=3, classes=2, progress=lambda *step: seen.append(step))
    assert found.tolist() == [1, 1, 0]
    assert found.dtype == np.int16
    assert seen == [(2, 3), (3, 3)]
    assert not model.training


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_fail_and_are_counted(value: float) -> None:
    batch = torch.ones(4, 3, 4, 4)
    batch[1] = value
    with pytest.raises(VitptqError, match=r"not finite .* for 1 of 6 images"):
        predict(Brightness(), [batch, torch.ones(2, 3, 4, 4)], total=6, classes=2, progress=ignore)


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(BadInput, match=r"returned \(2, 2\) for 2 images; expected logits of shape \(2, 5\)"):
        predict(Brightness(), [torch.ones(2, 3, 4, 4)], total=2, classes=5, progress=ignore)
