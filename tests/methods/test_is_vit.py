"""I&S-ViT and DopQ-ViT: the three stages, what they freeze, and what the fold must not change."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.model import openmmlab_models
from tests.methods.models_to_fold import model_to_fold
from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.reconstruct.smooth_optimisation import SmoothOptimisation
from vitptq.methods.dopq_vit import DopQViT
from vitptq.methods.is_vit import ISViT

BITS = BitSpec(4, 4)


@pytest.fixture(params=["ViT", "Swin"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return model_to_fold(request.param)


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def test_steps_follow_the_paper() -> None:
    steps = [ISViT().stages(RandomImages(), BitSpec(b, b)).settings.iterations for b in (3, 4, 6, 8)]
    assert steps == [1000, 1000, 200, 200]
    assert DopQViT().stages(RandomImages(), BITS).settings.iterations == 1000


@pytest.mark.parametrize("method", [ISViT(), DopQViT()])
def test_float_sides_are_refused(method) -> None:
    with pytest.raises(Unsupported, match="float weights or activations"):
        method.quantize(two_block_models()["ViT"], RandomImages(), BitSpec(32, 4))


def test_the_unrounded_zero_point_and_other_grids_can_be_asked_for() -> None:
    model = two_block_models()["ViT"]
    method = ISViT(iterations=0, round_zero_point=False, softmax="log2")
    stages: SmoothOptimisation = method.stages(RandomImages(), BITS)
    net = prepare(model, BITS)
    stages.set_activations(net, RandomImages())
    stages.reparameterise(net)
    zeros = [r.input_operand.quantizer.zero_point.item() for _, rs in stages.folded(net) for r in rs]
    assert any(zero != round(zero) for zero in zeros)
    kinds = {type(o.quantizer).__name__ for o in net.activations.values() if o.role == "softmax"}
    assert kinds == {"Log2"}


@pytest.mark.parametrize("method", [ISViT(iterations=2, batch=2), DopQViT(iterations=2, batch=2)])
def test_a_detector_is_trained_too(method) -> None:
    model = openmmlab_models.mask_rcnn()
    calibration = openmmlab_models.Images((32, 32), (32, 48))
    batch = next(calibration.batches())
    with torch.no_grad():
        expected = calibration.forward(model, batch)
        quantised = method.quantize(model, calibration, BitSpec(8, 8))
        actual = calibration.forward(quantised, batch)
    weights = [name for name, m in quantised.named_modules() if name.endswith("qkv.weight_operand") and m.on]
    assert len(weights) == 6
    assert all(0 < apart(a, e) < 0.3 for a, e in zip(actual[:4], expected[:4], strict=True))
