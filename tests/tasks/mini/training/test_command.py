"""From a recipe to published weights, as both training commands go."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitptq.tasks.mini.data.digit_images import DATA, read_split
from vitptq.tasks.mini.data.generated import Counts
from vitptq.tasks.mini.training.classifier import ClassifierTraining
from vitptq.tasks.mini.training.command import choose_device, choose_workers, readable, train_and_publish
from vitptq.tasks.mini.training.epochs import ClassifierRecipe

CPU = torch.device("cpu")
TINY = ClassifierRecipe(epochs=2, images=32, batch=32)


def published(tmp_path: Path, *, minutes: float, export: bool) -> dict[str, float] | None:
    data = DATA.generate(tmp_path / "data", counts=Counts(train=10, val=10))

    def start(recipe: ClassifierRecipe) -> ClassifierTraining:
        assert recipe == TINY
        return ClassifierTraining("mini_vit", recipe, CPU, lambda: read_split(data, "val"))

    places = {"work": tmp_path / "work", "out": tmp_path / "out"}
    return train_and_publish(start, TINY, "mini_vit", **places, minutes=minutes, workers=0, export=export)


def test_a_run_out_of_time_publishes_nothing_and_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert published(tmp_path, minutes=1e-9, export=False) is None
    assert "mini_vit: stopped after epoch 0 of 2; the same command continues" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_finished_run_publishes_and_its_checkpoint_can_be_exported_again(tmp_path: Path) -> None:
    scores = published(tmp_path, minutes=60, export=False)
    weights = load_file(tmp_path / "out" / "mini_vit.safetensors")
    assert scores is not None and scores == published(tmp_path, minutes=0, export=True)
    again = load_file(tmp_path / "out" / "mini_vit.safetensors")
    assert again.keys() == weights.keys() and all(torch.equal(again[key], weights[key]) for key in weights)


def test_devices_and_workers_are_chosen_by_what_is_there() -> None:
    assert choose_device("cpu") == CPU
    assert choose_workers(-1, CPU) == 0 and choose_workers(3, CPU) == 3
    assert 1 <= choose_workers(-1, torch.device("cuda")) <= 4
    assert readable({"box_ap": 52.9, "mask_ap": 47.494}) == "box_ap 52.90 %, mask_ap 47.49 %"
