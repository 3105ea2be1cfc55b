"""What tells a Hessian from rounding noise: growth with the perturbation, agreement of two draws, figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitptq.bench.bits import FLOAT
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.sensitivity.perturbation_diagnostics import agreement, correlation, growth, statistics


class Doubles(RandomImages):
    def batches(self):
        for batch in super().batches():
            yield batch.double()


def layer_scaled() -> nn.Module:
    torch.manual_seed(3)
    size: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = VisionTransformer(**size, num_classes=10, init_values=0.1).double().eval()
    for module in model.modules():
        if isinstance(getattr(module, "gamma", None), nn.Parameter):
            nn.init.uniform_(module.gamma, 0.1, 1)
    return model


def test_curvature_grows_with_the_perturbation_and_noise_does_not() -> None:
    units = ["blocks.1.mlp"]
    true = growth(prepare(layer_scaled(), FLOAT), Doubles(), units, temperature=1.0, epsilon=1e-5)
    assert true["blocks.1.mlp"] == pytest.approx(10, rel=0.01)
    noise = growth(prepare(two_block_models()["ViT"], FLOAT), RandomImages(), units)
    assert noise["blocks.1.mlp"] is not None and noise["blocks.1.mlp"] < 5


def test_two_fisher_diagonals_agree_the_more_is_drawn() -> None:
    net = prepare(two_block_models()["ViT"], FLOAT)
    few, many = (agreement(net, RandomImages(), ["blocks.0"], draws=n, temperature=1.0, seed=0) for n in (1, 64))
    assert 0 < few["blocks.0"] < many["blocks.0"] < 1
    assert many["blocks.0"] > 0.9


def test_figures_for_the_record() -> None:
    h = torch.arange(101.0)
    told = statistics({"a": h}, {"a": 5 - h})
    assert told == {
        "a": {
            "mean": 50.0,
            "quantiles": {"0.01": 1.0, "0.5": 50.0, "0.99": 99.0},
            "zero": pytest.approx(1 / 101),
            "correlation with Fisher": -1.0,
            "fisher mean": -45.0,
        }
    }
    assert correlation(torch.ones(3), torch.arange(3.0)) is None
