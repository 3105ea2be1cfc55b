"""QDrop: where its probability is used, and that 1 switches dropping off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods import qdrop
from vitptq.methods.core.ranges.estimation import Range, asymmetric_parameters
from vitptq.methods.core.ranges.power_error import least_power_error
from vitptq.methods.core.ranges.shrunk import least_error_range
from vitptq.methods.core.reconstruct import least_error_start
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


@pytest.mark.parametrize(("form", "error"), [("paper", least_error_range), ("released", least_power_error)])
def test_a_form_starts_from_the_ranges_of_its_error(
    monkeypatch: pytest.MonkeyPatch, form: str, error: Callable[[Tensor, int], Range]
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(least_error_start, "SAMPLED_FOR_POWERS", 100)
    monkeypatch.setattr(qdrop, "reconstruct", lambda *args, **options: started.append(args))
    QDrop.configured({"form": form}).quantize(two_block_models()["ViT"], RandomImages(), BitSpec(3, 3))
    net, settings = started[0][0], started[0][3]
    head = net.model.head
    expected = asymmetric_parameters(*error(head.weight, 3), 3)[0]
    assert torch.equal(head.weight_operand.quantizer.scale, expected)
    assert settings.keep_better is (form == "paper")
