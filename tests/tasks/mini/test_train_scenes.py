import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from vitptq.tasks.mini import scene_models
from vitptq.tasks.mini.scene_batches import fit_batch, model_input
from vitptq.tasks.mini.scene_models import SCENE_MODELS, halved, widened
from vitptq.tasks.mini.train_scenes import Recipe, publish, train
from vitptq.tasks.openmmlab.runtime import build

CPU = torch.device("cpu")
# Two scenes: the batch norms of UPerNet have one pixel per scene.
TINY = Recipe(steps=4, batch=2, warmup=1)


@pytest.mark.parametrize("name", ["mini_mask_rcnn_swin", "mini_upernet_swin"])
def test_a_resumed_run_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = train(name, TINY, tmp_path / "whole", device=CPU)
    train(name, TINY, tmp_path / "parts", device=CPU, until=2)
    resumed = train(name, TINY, tmp_path / "parts", device=CPU)
    assert resumed.step == whole.step == 4
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def test_another_recipe_does_not_continue_a_checkpoint(tmp_path: Path) -> None:
    train("mini_upernet_swin", TINY, tmp_path, device=CPU, until=1)
    with pytest.raises(ValueError, match="another --work folder"):
        train("mini_upernet_swin", Recipe(steps=5, batch=2), tmp_path, device=CPU)


def test_every_step_brings_new_scenes_and_repeats_exactly() -> None:
    first, again, second = fit_batch(0, 2, 0), fit_batch(0, 2, 0), fit_batch(0, 2, 1)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, second.images)


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


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # mmdet
def test_published_files_agree_with_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "mini_cascade_mask_rcnn_swin"
    state = train(name, TINY, tmp_path / "work", device=CPU, until=1)
    scores = publish(state, name, TINY, tmp_path / "out", device=CPU, count=2)
    monkeypatch.setattr(scene_models, "WEIGHTS", tmp_path / "out")
    facts = json.loads((tmp_path / f"out/{name}.json").read_text())
    weights = tmp_path / f"out/{name}.safetensors"
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert SCENE_MODELS[name].scores == pytest.approx(scores, abs=1e-4)
    assert weights.stat().st_size < 10e6
    loaded = scene_models.load(name)
    # What was scored is what is loaded.
    for key, value in state.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    with (tmp_path / f"out/{name}.log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1"]


def test_missing_or_foreign_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_models, "WEIGHTS", tmp_path)
    with pytest.raises(scene_models.WeightsError, match="train it with|train the model with"):
        scene_models.load("mini_upernet_swin")
    (tmp_path / "mini_upernet_swin.json").write_text(json.dumps({"sha256": "0" * 64}))
    (tmp_path / "mini_upernet_swin.safetensors").write_bytes(b"other")
    with pytest.raises(scene_models.WeightsError, match="expected 000"):
        scene_models.load("mini_upernet_swin")


def test_weights_are_stored_in_16_bits_and_used_in_32() -> None:
    stored = halved({"weight": torch.tensor([0.1]), "index": torch.tensor([3])})
    assert stored["weight"].dtype == torch.float16
    assert widened(stored)["weight"].dtype == torch.float32
    assert torch.equal(widened(stored)["index"], torch.tensor([3]))
    with pytest.raises(scene_models.WeightsError, match="wide: not finite"):
        halved({"wide": torch.tensor([1e6])})
