import csv
import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from vitptq.tasks.mini.data.digit_images import DATA, read_split
from vitptq.tasks.mini.data.generated import Counts
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS
from vitptq.tasks.mini.training.ahead import ahead
from vitptq.tasks.mini.training.classifier import ClassifierTraining
from vitptq.tasks.mini.training.epochs import ClassifierRecipe, epoch_images
from vitptq.tasks.mini.training.model_input import model_input

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


def test_every_epoch_brings_new_images_and_repeats_exactly() -> None:
    first, _ = epoch_images(TINY, 0)
    again, _ = epoch_images(TINY, 0)
    second, _ = epoch_images(TINY, 1)
    assert (first == again).all()
    assert (first != second).any(axis=(1, 2, 3)).all()


@pytest.mark.slow
def test_worker_processes_make_the_same_epochs() -> None:
    found = list(ahead(partial(epoch_images, TINY), range(1, 4), workers=1))
    assert len(found) == 3
    for epoch, (images, labels) in enumerate(found, start=1):
        expected, answers = epoch_images(TINY, epoch)
        assert (images == expected).all() and (labels == answers).all()


def test_a_run_out_of_time_leaves_a_checkpoint_to_continue_from(tmp_path: Path) -> None:
    assert training().done(training().run(tmp_path, minutes=1e-9)) == 0
    assert training().done(training().run(tmp_path, until=1)) == 1
    assert training().done(training().run(tmp_path, minutes=1e-9)) == 1


@pytest.mark.parametrize("name", ["mini_mobilevitv2", "mini_efficientformerv2"])
def test_a_hybrid_learns_one_batch(name: str) -> None:
    torch.manual_seed(0)
    model = CLASSIFIERS[name].build()
    images, labels = epoch_images(ClassifierRecipe(images=16), 0)
    batch, answers = model_input(images, CPU), torch.from_numpy(labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = functional.cross_entropy(model(batch), answers)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_an_epoch_uses_every_digit_before_repeating_one() -> None:
    _, labels = epoch_images(ClassifierRecipe(images=3400), 0)
    assert np.bincount(labels).tolist() == [340] * 10


def test_published_files_agree_with_each_other(tmp_path: Path) -> None:
    data = DATA.generate(tmp_path / "data", counts=Counts(train=10, val=20))
    recipe = ClassifierRecipe(epochs=1, images=32, batch=32)
    swin = ClassifierTraining("mini_swin", recipe, CPU, evaluation=lambda: read_split(data, "val"))
    state = swin.run(tmp_path / "work")
    scores = swin.publish(state, tmp_path / "out")
    facts = json.loads((tmp_path / "out/mini_swin.json").read_text())
    weights = tmp_path / "out/mini_swin.safetensors"
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["top1"] == scores["top1"]
    assert facts["recipe"]["images"] == 32 and facts["epochs_done"] == 1
    assert facts["device"] == "cpu"
    assert load_file(weights).keys() == state.model.state_dict().keys()
    assert facts["outlier_plan"].keys() >= {"layers.0.blocks.0.norm1", "layers.1.downsample.norm"}
    with (tmp_path / "out/mini_swin.log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
