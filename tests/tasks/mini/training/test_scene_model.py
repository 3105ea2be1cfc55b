import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from vitptq.tasks.mini.models import shipped
from vitptq.tasks.mini.models.scene_models import SCENE_MODELS, halved, widened
from vitptq.tasks.mini.training.model_input import model_input
from vitptq.tasks.mini.training.scene_batches import fit_batch
from vitptq.tasks.mini.training.scene_model import SceneRecipe, SceneTraining
from vitptq.tasks.openmmlab.models import build

CPU = torch.device("cpu")
# Two scenes: the batch norms of UPerNet have one pixel per scene.
TINY = SceneRecipe(steps=4, batch=2, warmup=1)


def training(name: str, recipe: SceneRecipe = TINY) -> SceneTraining:
    return SceneTraining(name, recipe, CPU, count=2)


@pytest.mark.parametrize("name", ["mini_mask_rcnn_swin", "mini_upernet_swin"])
def test_a_resumed_run_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = training(name).run(tmp_path / "whole")
    training(name).run(tmp_path / "parts", until=2)
    resumed = training(name).run(tmp_path / "parts")
    assert training(name).done(resumed) == training(name).done(whole) == 4
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def test_another_recipe_does_not_continue_a_checkpoint(tmp_path: Path) -> None:
    training("mini_upernet_swin").run(tmp_path, until=1)
    with pytest.raises(ValueError, match="another --work folder"):
        training("mini_upernet_swin", SceneRecipe(steps=5, batch=2)).run(tmp_path)


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
    state = training(name).run(tmp_path / "work", until=1)
    scores = training(name).publish(state, tmp_path / "out")
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "out")
    facts = json.loads((tmp_path / f"out/{name}.json").read_text())
    weights = tmp_path / f"out/{name}.safetensors"
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert SCENE_MODELS[name].scores == scores
    assert weights.stat().st_size < 10e6
    loaded = SCENE_MODELS[name].load()
    # What was scored is what is loaded.
    for key, value in state.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    with (tmp_path / f"out/{name}.log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1"]


def test_missing_or_foreign_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(shipped.WeightsError, match="train the model again as tasks/mini/README.md says"):
        SCENE_MODELS["mini_upernet_swin"].load()
    (tmp_path / "mini_upernet_swin.json").write_text(json.dumps({"sha256": "0" * 64}))
    (tmp_path / "mini_upernet_swin.safetensors").write_bytes(b"other")
    with pytest.raises(shipped.WeightsError, match="expected 000"):
        SCENE_MODELS["mini_upernet_swin"].load()


def test_weights_are_stored_in_16_bits_and_used_in_32() -> None:
    stored = halved({"weight": torch.tensor([0.1]), "index": torch.tensor([3])})
    assert stored["weight"].dtype == torch.float16
    assert widened(stored)["weight"].dtype == torch.float32
    assert torch.equal(widened(stored)["index"], torch.tensor([3]))
    with pytest.raises(shipped.WeightsError, match="wide: not finite"):
        halved({"wide": torch.tensor([1e6])})
