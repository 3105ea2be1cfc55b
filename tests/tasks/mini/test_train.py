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

from vitptq.tasks.mini.data import Counts, generate
from vitptq.tasks.mini.epochs import Recipe, ahead, epoch_images
from vitptq.tasks.mini.models import MODELS
from vitptq.tasks.mini.train import normalise, publish, train

CPU = torch.device("cpu")
TINY = Recipe(epochs=2, images=64, batch=32, warmup=1)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train("mini_vit", TINY, tmp_path / "whole", device=CPU)
    train("mini_vit", TINY, tmp_path / "parts", device=CPU, until=1)
    resumed = train("mini_vit", TINY, tmp_path / "parts", device=CPU)
    assert resumed.epoch == whole.epoch == 2
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def test_another_recipe_does_not_continue_a_checkpoint(tmp_path: Path) -> None:
    train("mini_vit", TINY, tmp_path, device=CPU, until=1)
    with pytest.raises(ValueError, match="another --work folder"):
        train("mini_vit", Recipe(epochs=3, images=64, batch=32), tmp_path, device=CPU)


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
    assert train("mini_vit", TINY, tmp_path, device=CPU, minutes=1e-9).epoch == 0
    assert train("mini_vit", TINY, tmp_path, device=CPU, until=1).epoch == 1
    assert train("mini_vit", TINY, tmp_path, device=CPU, minutes=1e-9).epoch == 1


@pytest.mark.parametrize("name", ["mini_mobilevitv2", "mini_efficientformerv2"])
def test_a_hybrid_learns_one_batch(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name].build()
    images, labels = epoch_images(Recipe(images=16), 0)
    batch, answers = normalise(images, CPU), torch.from_numpy(labels)
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
    _, labels = epoch_images(Recipe(images=3400), 0)
    assert np.bincount(labels).tolist() == [340] * 10


def test_published_files_agree_with_each_other(tmp_path: Path) -> None:
    data = generate(tmp_path / "data", counts=Counts(train=10, val=20))
    state = train("mini_swin", Recipe(epochs=1, images=32, batch=32), tmp_path / "work", device=CPU)
    top1 = publish(state, "mini_swin", TINY, data, tmp_path / "out", device=CPU)
    facts = json.loads((tmp_path / "out/mini_swin.json").read_text())
    weights = tmp_path / "out/mini_swin.safetensors"
    assert facts["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert facts["top1"] == pytest.approx(top1)
    assert facts["device"] == "cpu"
    assert load_file(weights).keys() == state.model.state_dict().keys()
    assert facts["outlier_plan"].keys() >= {"layers.0.blocks.0.norm1", "layers.1.downsample.norm"}
    with (tmp_path / "out/mini_swin.log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
