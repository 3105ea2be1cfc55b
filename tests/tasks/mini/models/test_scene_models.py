"""Detectors and segmenters with shipped weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from vitptq.tasks.mini.models import shipped
from vitptq.tasks.mini.models.scene_models import SCENE_MODELS, halved, widened


def test_missing_or_foreign_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(shipped.WeightsError, match="train the model again as tasks/mini/README.md says"):
        SCENE_MODELS["mini_upernet_swin"].load()
    (tmp_path / "mini_upernet_swin.json").write_text(json.dumps({"sha256": "0" * 64}))
    (tmp_path / "mini_upernet_swin.safetensors").write_bytes(b"other")
    with pytest.raises(shipped.WeightsError, match="expected 000"):
        SCENE_MODELS["mini_upernet_swin"].load()


def test_weights_are_stored_in_16_bits_and_used_in_32() -> None:
    stored = halved({"weight": torch.tensor([0.1]), "index": torch.tensor([3])})
    assert stored["weight"].dtype == torch.float16
    assert widened(stored)["weight"].dtype == torch.float32
    assert torch.equal(widened(stored)["index"], torch.tensor([3]))
    with pytest.raises(shipped.WeightsError, match="wide: not finite"):
        halved({"wide": torch.tensor([1e6])})
