"""Images in memory as the models read them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from vitptq.tasks.mini.models.scene_models import SCENE_MODELS
from vitptq.tasks.mini.training.model_input import model_input
from vitptq.tasks.mini.training.scene_batches import fit_batch
from vitptq.tasks.openmmlab.models import build

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", SCENE_MODELS)
def test_training_sees_the_input_that_the_preprocessor_makes(name: str) -> None:
    images = fit_batch(0, 2, 0).images
    entry = SCENE_MODELS[name]
    model = build(entry.config(), entry.scope)
    as_read_by_opencv = [torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) for image in images]
    samples = [_sample(entry.scope) for _ in images]
    prepared = model.data_preprocessor({"inputs": as_read_by_opencv, "data_samples": samples})["inputs"]
    torch.testing.assert_close(model_input(images, CPU), prepared, rtol=0, atol=1e-5)


def _sample(scope: str) -> object:
    if scope == "mmdet":
        from mmdet.structures import DetDataSample

        return DetDataSample(metainfo={"img_shape": (96, 96)})
    from mmseg.structures import SegDataSample

    return SegDataSample(metainfo={"img_shape": (96, 96)})
