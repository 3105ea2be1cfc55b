"""What tasks on models of OpenMMLab share."""

from __future__ import annotations

import pytest

from vitptq.tasks.mini.detection import MiniCoco
from vitptq.tasks.openmmlab import libraries


def test_a_library_that_is_not_installed_comes_first_among_the_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "problems", lambda: ["mmdet cannot be imported"])
    libraries.require.cache_clear()
    assert MiniCoco().problems("mini_mask_rcnn_swin")[0] == "mmdet cannot be imported"


def test_the_input_has_the_size_and_normalisation_of_the_config() -> None:
    task = MiniCoco()
    spec = task.input("mini_mask_rcnn_swin")
    mean = task.config("mini_mask_rcnn_swin")["data_preprocessor"]["mean"]
    assert spec.shape == (3, *task.input_size("mini_mask_rcnn_swin"))
    assert spec.mean == pytest.approx([value / 255 for value in mean])
