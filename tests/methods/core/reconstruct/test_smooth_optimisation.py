"""Smooth optimisation: what each stage changes, and on which images ranges are set."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.methods.models_to_fold import model_to_fold
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct import reconstruct
from vitptq.methods.core.reconstruct.smooth_optimisation import leading, set_weights
from vitptq.methods.dopq_vit import DopQViT
from vitptq.methods.is_vit import ISViT

BITS = BitSpec(4, 4)


@pytest.fixture(params=["ViT", "Swin"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return model_to_fold(request.param)


def images() -> Tensor:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def off(net: PreparedModel) -> Tensor:
    """Return the outputs with every operand off; the switches stay as they were."""
    states = {name: operand.on for name, operand in net.operands.items()}
    with torch.no_grad():
        out: Tensor = net.switch(False)(images())
    for name, operand in net.operands.items():
        operand.on = states[name]
    return out


def apart(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize(
    "method", [ISViT(iterations=0), DopQViT(iterations=0), DopQViT(iterations=0, zero_rule="median", reductions=True)]
)
def test_stage_2_changes_neither_the_float_function_nor_the_codes(model: nn.Module, method) -> None:
    stages = method.stages(RandomImages(), BITS)
    net = prepare(model, BITS)
    stages.set_activations(net, RandomImages())
    expected = off(net)
    with torch.no_grad():
        quantised = net.model(images())
        stages.reparameterise(net)
        assert apart(off(net), expected) < 1e-5
        assert apart(net.model(images()), quantised) < 1e-2  # a rounding tie may fall the other way
    for _, readers in stages.folded(net):
        for reader in readers:
            quantizer = reader.input_operand.quantizer
            assert isinstance(quantizer, Uniform) and quantizer.granularity == "tensor"
            assert quantizer.zero_point.item() == round(quantizer.zero_point.item())


def test_patch_merging_is_folded_only_where_asked_for() -> None:
    net = prepare(two_block_models()["Swin"], BITS)
    stages = ISViT().stages(RandomImages(), BITS)
    counts = [len(replace(stages, reductions=choice).folded(net)) for choice in (False, True)]
    assert counts[1] == len(net.norm_readers()) > counts[0] > 0


def test_weights_stay_float_until_stage_3(model: nn.Module) -> None:
    stages = ISViT(iterations=0).stages(RandomImages(), BITS)
    net = prepare(model, BITS)
    stages.set_activations(net, RandomImages())
    assert not any(operand.on or operand.quantizer is not None for operand in net.weights.values())
    assert all(operand.on and operand.quantizer is not None for operand in net.activations.values())
    set_weights(net)
    assert all(operand.on and operand.quantizer is not None for operand in net.weights.values())


def test_training_freezes_all_but_weights_and_biases_and_lowers_the_error(model: nn.Module) -> None:
    calibration = RandomImages()
    stages = ISViT(iterations=30, rate=1e-3, batch=8).stages(RandomImages(), BITS)
    net, twin = prepare(model, BITS), prepare(model, BITS)
    stages.set_activations(net, calibration)
    for stage in (1, 3):
        if stage == 3:
            stages.reparameterise(net)
            set_weights(net)
        norms = {name for name, m in net.model.named_modules() if isinstance(m, nn.LayerNorm)}
        before = {name: x.clone() for name, x in net.model.state_dict().items()}
        trained = replace(stages.settings, input="float" if stage == 1 else "quantised")
        results = reconstruct(net, twin, calibration, trained)
        changed = {name for name, x in net.model.state_dict().items() if not torch.equal(x, before[name])}
        assert changed and not {name.rpartition(".")[0] for name in changed} & norms
        assert all(name.endswith((".weight", ".bias")) for name in changed)
        assert sum(r.after["loss"] for r in results) < sum(r.before["loss"] for r in results)


class Batches(RandomImages):
    def __init__(self, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def batches(self):
        for i, shape in enumerate(self.shapes):
            yield torch.full(shape, float(i))


def test_ranges_look_at_the_first_images_of_one_shape() -> None:
    small, large = (4, 3, 32, 32), (2, 3, 1344, 800)
    assert len(leading(Batches(small, small, small), 10)) == 10
    assert len(leading(Batches(small, small), 64)) == 8
    assert len(leading(Batches(small, (4, 3, 16, 16)), 64)) == 4
    assert len(leading(Batches(large, large, large), 64)) == 2  # as large as 64 images of 224 pixels
