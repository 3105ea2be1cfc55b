"""Trainings that are killed, continued and stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitptq.tasks.mini.training.classifier import ClassifierTraining
from vitptq.tasks.mini.training.epochs import ClassifierRecipe

CPU = torch.device("cpu")


TINY = ClassifierRecipe(epochs=2, images=64, batch=32, warmup=1)


def training(name: str = "mini_vit", recipe: ClassifierRecipe = TINY) -> ClassifierTraining:
    return ClassifierTraining(name, recipe, CPU, evaluation=lambda: pytest.fail("evaluated"))


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = training().run(tmp_path / "whole")
    training().run(tmp_path / "parts", until=1)
    resumed = training().run(tmp_path / "parts")
    assert training().done(resumed) == training().done(whole) == 2
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def test_another_recipe_does_not_continue_a_checkpoint(tmp_path: Path) -> None:
    training().run(tmp_path, until=1)
    with pytest.raises(ValueError, match="another --work folder"):
        training(recipe=ClassifierRecipe(epochs=3, images=64, batch=32)).run(tmp_path)


def test_a_run_out_of_time_leaves_a_checkpoint_to_continue_from(tmp_path: Path) -> None:
    assert training().done(training().run(tmp_path, minutes=1e-9)) == 0
    assert training().done(training().run(tmp_path, until=1)) == 1
    assert training().done(training().run(tmp_path, minutes=1e-9)) == 1
