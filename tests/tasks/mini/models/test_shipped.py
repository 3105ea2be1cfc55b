"""Shipped weights and what their training wrote about them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vitptq.tasks.mini.models import shipped
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS
from vitptq.tasks.mini.models.scene_models import SCENE_MODELS
from vitptq.tasks.mini.models.shipped import ShippedModel, WeightsError, facts

SHIPPED = {**CLASSIFIERS, **SCENE_MODELS}


@pytest.mark.parametrize("entry", SHIPPED.values(), ids=SHIPPED)
def test_weights_scores_and_facts_belong_together(entry: ShippedModel) -> None:
    assert hashlib.sha256(entry.weights.read_bytes()).hexdigest() == entry.sha256
    assert entry.checkpoint.startswith(entry.sha256)
    assert entry.scores and all(0 < score < 100 for score in entry.scores.values())
    assert facts(entry.trained_as)["model"] == entry.trained_as


def test_variants_share_weights_and_are_other_checkpoints() -> None:
    assert len({entry.checkpoint for entry in SHIPPED.values()}) == len(SHIPPED)
    assert CLASSIFIERS["mini_vit_outlier"].weights == CLASSIFIERS["mini_vit"].weights


def test_a_pointer_in_place_of_the_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CLASSIFIERS["mini_vit"]
    (tmp_path / "mini_vit.json").write_bytes(entry.weights.with_suffix(".json").read_bytes())
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    entry.weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(WeightsError, match=r"mini_vit\.safetensors is a git-lfs pointer .*: restore it"):
        entry.load()
