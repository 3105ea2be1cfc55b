"""QDrop: where its probability is used, and that 1 switches dropping off."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods import qdrop
from vitptq.methods.qdrop import QDrop


def test_inputs_and_activations_are_quantised_with_the_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[Any] = []
    monkeypatch.setattr(qdrop, "reconstruct", lambda *args, **options: settings.append(args[3]))
    QDrop(quantised_probability=0.25).quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
    assert (settings[0].quantised_input_probability, settings[0].quantised_probability) == (0.25, 0.25)
    assert settings[0].input == "mixed"


def test_another_probability_trains_other_weights() -> None:
    found = [
        QDrop(iterations=3, batch=4, weight_rate=0.1, quantised_probability=p)
        .quantize(two_block_models()["ViT"], RandomImages(), BitSpec(2, 2))
        .state_dict()
        for p in (1.0, 0.5)
    ]
    assert any(not torch.equal(x, found[1][name]) for name, x in found[0].items() if name.endswith("weight"))
