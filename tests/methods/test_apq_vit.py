"""APQ-ViT: without elimination the block's weighted error, what elimination drops, and the softmax grid."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods import apq_vit
from vitptq.methods.apq_vit import APQViT, block_error
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.module_run import Call, ModuleRun

W4A4 = BitSpec(4, 4)
FAST = APQViT(candidates=4, rounds=1)


def call(target: torch.Tensor, gradient: torch.Tensor | None = None) -> Call:
    return Call((), {}, target, gradient)


def test_without_elimination_it_is_the_weighted_squared_error() -> None:
    out, target, gradient = (torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(s)) for s in (1, 2, 3))
    expected = (gradient * (out - target)).square().sum()
    torch.testing.assert_close(block_error(0)(out, call(target, gradient)), expected)


def test_the_smallest_errors_do_not_count() -> None:
    out, target = torch.tensor([[1.0, -2.0, 3.0, 4.0]]), torch.zeros(1, 4)
    assert block_error(50)(out, call(target)).item() == 9 + 16
    assert block_error(25)(out, call(target, torch.tensor([[9.0, 1.0, 1.0, 1.0]]))).item() == 81 + 9 + 16


def test_a_layer_is_judged_by_what_its_block_puts_out(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[torch.nn.Module] = []

    class Watched(ModuleRun):
        def search(self, slots: Any, *args: Any) -> None:
            judged.extend(self.module for slot in slots if slot.name == "blocks.1.mlp.fc1.input_operand")
            super().search(slots, *args)

    monkeypatch.setattr(apq_vit, "ModuleRun", Watched)
    FAST.quantize(two_block_models()["ViT"], RandomImages(), W4A4)
    assert [type(module).__name__ for module in judged] == ["Block"]


def test_probabilities_have_an_unsigned_grid_up_to_the_largest() -> None:
    net, images = prepare(two_block_models()["ViT"], W4A4), RandomImages()
    slot = net.operands["blocks.0.attn.av.left_operand"]
    seen: list[torch.Tensor] = []
    slot.watcher = lambda _, x: seen.append(x)
    net.run(images)
    slot.watcher = None
    apq_vit.start(net, images)
    assert isinstance(slot.quantizer, Uniform) and slot.quantizer.low == 0
    torch.testing.assert_close(slot.quantizer.grid()[0, -1], seen[0].amax())
    quantised = FAST.quantize(two_block_models()["ViT"], images, W4A4)
    assert torch.equal(quantised.get_buffer("blocks.0.attn.av.left_operand.quantizer.scale"), slot.quantizer.scale)


def test_all_errors_cannot_be_eliminated() -> None:
    with pytest.raises(BadInput, match="eliminated is 0 up to below 100"):
        APQViT(eliminated=100)
