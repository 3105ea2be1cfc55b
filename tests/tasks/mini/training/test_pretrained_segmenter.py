from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from vitptq.tasks.mini.data.compose_scene import SIDE
from vitptq.tasks.mini.training import pretrained_segmenter
from vitptq.tasks.mini.training.pretrained_segmenter import NAME, LinearRecipe, fit, publish, training_features


def scenes(count: int) -> dict[str, torch.Tensor]:
    """Left halves are class 0, right halves class 3; the tokens tell them apart."""
    tokens = torch.zeros(count, 4, 16, 16)
    tokens[:, 1, :, 8:] = 1
    labels = torch.zeros(count, SIDE, SIDE, dtype=torch.uint8)
    labels[:, :, SIDE // 2 :] = 3
    return {"tokens": tokens.half(), "labels": labels}


def test_the_head_learns_what_the_tokens_tell() -> None:
    found = scenes(8)
    head, rows = fit(found, LinearRecipe(epochs=20, batch=2, rate=0.2))
    assert rows[-1]["loss"] < rows[0]["loss"] / 4
    with torch.no_grad():
        logits = functional.interpolate(head(found["tokens"].float()), size=SIDE, mode="bilinear")
    assert (logits.argmax(1) == found["labels"]).float().mean() > 0.95


def test_tokens_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.features").mkdir()
    calls: list[int] = []

    class NoHead:
        def to(self, _device: torch.device) -> NoHead:
            return self

    def counted(_model: object, images: torch.Tensor, _device: torch.device) -> torch.Tensor:
        calls.append(len(images))
        return torch.zeros(len(images), 4, 16, 16).half()

    entry = type("Entry", (), {"without_head": lambda self: NoHead()})()
    monkeypatch.setattr(pretrained_segmenter, "PRETRAINED_SEGMENTERS", {NAME: entry})
    monkeypatch.setattr(pretrained_segmenter, "tokens", counted)
    monkeypatch.setattr(pretrained_segmenter, "CHUNK", 2)
    recipe = LinearRecipe(scenes=4)
    first = list(training_features(recipe, tmp_path, torch.device("cpu")))
    again = list(training_features(recipe, tmp_path, torch.device("cpu")))
    assert calls == [2, 2]
    assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(first, again, strict=True))


def test_a_published_head_has_the_names_of_mmsegs_and_its_recipe(tmp_path: Path) -> None:
    head, rows = fit(scenes(4), LinearRecipe(epochs=1, batch=2))
    publish(head, rows, {"model": NAME}, tmp_path)
    assert load_file(tmp_path / f"{NAME}.safetensors")["conv_seg.weight"].shape == (11, 4, 1, 1)
    assert json.loads((tmp_path / f"{NAME}.json").read_text())["model"] == NAME
