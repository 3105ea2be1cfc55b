"""What the three embedded tasks have in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.mini.classification import MiniImageNet
from vitptq.tasks.mini.data import compose_digit
from vitptq.tasks.mini.data.generated import Counts
from vitptq.tasks.mini.detection import MiniCoco
from vitptq.tasks.mini.edition import MiniTask
from vitptq.tasks.mini.models import shipped
from vitptq.tasks.mini.segmentation import MiniAde20k

EDITIONS = pytest.mark.parametrize(
    ("cls", "model"),
    [(MiniImageNet, "mini_vit"), (MiniCoco, "mini_mask_rcnn_swin"), (MiniAde20k, "mini_upernet_swin")],
)


@EDITIONS
def test_standard_data_has_the_published_lists(cls: type[MiniTask], model: str) -> None:
    published = json.loads(cls.data.lists.read_text())["lists"]
    assert list(cls().calibration_list(1)) == [str(name) for name in published["1"]]


@EDITIONS
def test_data_of_other_counts_has_lists_within_it(cls: type[MiniTask], model: str) -> None:
    task = cls(counts=Counts(train=12, val=10))
    drawn = list(task.calibration_list(1))
    assert len(set(drawn)) == 12
    assert drawn != sorted(drawn) and drawn != list(task.calibration_list(0))
    assert list(task.calibration_names(5, 1)) == drawn[:5]
    with pytest.raises(BadInput, match="no calibration list is published for seed 9; published: 0, 1, 2, 3, 4"):
        task.calibration_list(9)
    with pytest.raises(BadInput, match="13 calibration images"):
        task.calibration_names(13, 1)


@EDITIONS
def test_model_is_published_with_its_facts_and_its_weights_may_be_missing_here(
    cls: type[MiniTask], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    task = cls()
    assert task.models() == {}
    with pytest.raises(Missing, match=rf"{model}\.safetensors is missing: restore it from the repository"):
        task.card(model)
    facts = {"sha256": "ab" * 32, "top1": 9.0, "scores": {"miou": 9.0}, "outlier_plan": {}}
    (tmp_path / f"{model}.json").write_text(json.dumps(facts))
    assert task.models()[model].checkpoint == "ab" * 32
    assert task.problems(model)[-1] == f"{tmp_path / model}.safetensors is missing: restore it from the repository"
    with pytest.raises(Missing, match="is missing"):
        task.float_model(model)


@EDITIONS
def test_dropping_images_drops_the_photographs(cls: type[MiniTask], model: str) -> None:
    compose_digit.photographs_at_scales("calibration")
    cls().drop_images()
    assert compose_digit.photographs_at_scales.cache_info().currsize == 0
