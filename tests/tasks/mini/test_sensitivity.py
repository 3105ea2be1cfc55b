"""The embedded edition is a benchmark only if it separates methods: the coarse order of docs/sensitivity.md."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.tasks.mini.classification import MiniImageNet
from vitptq.tasks.mini.data import digit_images
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS
from vitptq.tasks.mini.training.model_input import model_input

IMAGES = 600
CPU = torch.device("cpu")


@cache
def task() -> MiniImageNet:
    found = MiniImageNet()
    found.prepare()
    return found


@cache
def evaluation() -> tuple[torch.Tensor, torch.Tensor]:
    split = digit_images.read_split(task().folder, "val")
    rows = np.random.Generator(np.random.PCG64(0)).permutation(len(split.labels))[:IMAGES]
    return model_input(split.images[rows], CPU), torch.from_numpy(np.asarray(split.labels)[rows])


def accuracy(model: nn.Module) -> float:
    images, labels = evaluation()
    with torch.no_grad():
        return 100 * (model(images).argmax(1) == labels).double().mean().item()


@cache
def score(model: str, method: str, bits: str) -> float:
    net = task().load(model, CPU)
    if method != "float":
        calibration = task().calibration(model, 32, 0, CPU)
        net = registry.method(method)().quantize(net, calibration, BitSpec.parse(bits))
    return accuracy(net)


@pytest.mark.parametrize("model", ["mini_vit", "mini_swin"])
def test_eight_bits_are_close_to_float(model: str) -> None:
    reference = score(model, "float", "W32A32")
    for method in ("minmax", "omse", "repq-vit"):
        assert abs(score(model, method, "W8A8") - reference) <= 2


@pytest.mark.parametrize(("model", "loss", "gain"), [("mini_vit", 10, 4), ("mini_swin", 2, 1)])
def test_plain_min_max_loses_at_three_bits_and_better_methods_lie_between(model: str, loss: float, gain: float) -> None:
    reference, plain = score(model, "float", "W32A32"), score(model, "minmax", "W3A3")
    better = max(score(model, method, "W3A3") for method in ("omse", "repq-vit"))
    assert plain < reference - loss
    assert plain + gain < better < reference


@pytest.mark.parametrize("model", ["mini_vit", "mini_swin"])
def test_outlier_variant_has_the_float_score_and_hurts_per_tensor_ranges(model: str) -> None:
    outlier = f"{model}_outlier"
    assert score(outlier, "float", "W32A32") == pytest.approx(score(model, "float", "W32A32"), abs=0.2)
    assert score(outlier, "minmax", "W4A4") < score(model, "minmax", "W4A4") - 5
    assert score(outlier, "repq-vit", "W4A4") > score(outlier, "minmax", "W4A4") + 5


@pytest.mark.parametrize("model", ["mini_vit", "mini_swin", "mini_mobilevit"])
def test_float_score_is_at_least_ninety_percent(model: str) -> None:
    assert CLASSIFIERS[model].scores["top1"] >= 90
