"""Trainings of classifiers, of seconds."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from vitptq.tasks.mini.data.digit_images import DATA, read_split
from vitptq.tasks.mini.data.generated import Counts
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS
from vitptq.tasks.mini.training.classifier import ClassifierTraining
from vitptq.tasks.mini.training.epochs import ClassifierRecipe, epoch_images
from vitptq.tasks.mini.training.model_input import model_input

CPU = torch.device("cpu")


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
