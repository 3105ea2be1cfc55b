"""Trainings of detectors and segmenters, of seconds."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from vitptq.tasks.mini.models import shipped
from vitptq.tasks.mini.models.scene_models import SCENE_MODELS
from vitptq.tasks.mini.training.scene_model import SceneRecipe, SceneTraining

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
