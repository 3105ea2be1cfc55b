"""TSPTQ-ViT: which slots have two scales, and the channels of the residual stream."""

from __future__ import annotations

from dataclasses import replace

import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.quantizers.two_scale import TwoScale
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.tsptq_vit import TSPTQViT, two_scales

FAST = TSPTQViT(candidates=4, rounds=1, shifts=4)


def slots_of(method: TSPTQViT) -> dict[str, Operand]:
    net = method.quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
    return {name: module for name, module in net.named_modules() if isinstance(module, Operand)}


def test_softmax_and_gelu_have_two_steps_and_nothing_else() -> None:
    roles = {slot.role for slot in slots_of(FAST).values() if isinstance(slot.quantizer, TwoScale)}
    assert roles == {"softmax", "gelu"}


def test_without_them_every_grid_is_uniform() -> None:
    slots = slots_of(replace(FAST, two_scale_values=False))
    assert all(isinstance(slot.quantizer, Uniform) for slot in slots.values())


def test_the_full_form_quantises_what_lies_between_layers_and_the_other_does_not() -> None:
    assert "blocks.0.first_sum" in slots_of(FAST)
    assert "blocks.0.first_sum" not in slots_of(replace(FAST, scope="operands"))


def test_outlier_channels_have_a_power_of_two_times_the_scale_of_the_others() -> None:
    high = torch.tensor([1.0, 1.2, 0.8, 20.0])
    scale, zero = two_scales(-high, high, 8, 3.0)
    assert scale[:3].unique().numel() == 1
    torch.testing.assert_close(scale[3] / scale[0], torch.tensor(32.0))  # 20 / 1.2 is above 16
    covered = (255 - zero) * scale
    assert (covered >= high - scale / 2 - 1e-5).all()


def test_channels_of_like_range_share_one_scale() -> None:
    high = torch.tensor([1.0, 1.2, 0.8, 2.0])
    scale, zero = two_scales(-high, high, 8, 3.0)
    assert scale.unique().numel() == 1 and zero.unique().numel() == 1
