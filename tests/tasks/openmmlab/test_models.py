"""Models built from configurations."""

from __future__ import annotations

import pytest

from tests.tasks.openmmlab.images_on_disk import PREPROCESSOR
from vitptq.tasks.openmmlab import models


def test_both_libraries_build_in_one_process_without_initialisation() -> None:
    swin = {"type": "SwinTransformer", "embed_dims": 8, "num_heads": (1, 1, 1, 1), "depths": (1, 1, 1, 1)}
    pinned = {"type": "Pretrained", "checkpoint": "https://example.org/never-asked.pth"}
    for scope in ("mmdet", "mmseg", "mmdet"):
        model = models.build(swin | {"init_cfg": pinned}, scope)  # type: ignore[arg-type]
        assert type(model).__module__.startswith(scope)
        assert not model.training
        assert model.init_cfg is None


def test_input_spec_is_on_the_scale_of_one() -> None:
    spec = models.input_spec({"data_preprocessor": PREPROCESSOR}, (800, 1344))
    assert spec.shape == (3, 800, 1344)
    assert spec.mean == pytest.approx((0.485, 0.456, 0.406)) and spec.std == pytest.approx((0.229, 0.224, 0.225))
