"""Operands: transposed convolutions, and watching what enters a slot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT_BITS, BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import ConvTranspose2d, Operand, watching
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform

BACKBONE = BitSpec(4, 4)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "output_padding": 1, "bias": False}])
def test_transposed_convolution_quantises_per_output_channel(options: dict[str, Any]) -> None:
    layer = nn.ConvTranspose2d(3, 5, 3, **options).requires_grad_(False)
    slotted, x = ConvTranspose2d(layer, BACKBONE), torch.randn(2, 3, 6, 4)
    assert torch.equal(slotted(x), layer(x))
    assert slotted.weight_operand.by_channel(slotted.weight).shape == (5, 3 * 3 * 3)
    assert torch.equal(slotted.weight_operand.by_channel(slotted.weight)[2], layer.weight[:, 2].flatten())
    assert slotted.weight.data_ptr() == layer.weight.data_ptr()


def test_transposed_convolution_in_groups_is_refused() -> None:
    with pytest.raises(Unsupported, match="transposed convolution in 2 groups"):
        ConvTranspose2d(nn.ConvTranspose2d(4, 4, 2, groups=2), BACKBONE)


def test_watchers_see_what_enters_and_are_released_after_an_error() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 4))
    seen: list[str] = []

    def watch(operand: Operand, x: Tensor) -> None:
        seen.append(operand.name)
        if len(seen) == 3:
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"), watching(net.activations, watch):
        net.run(RandomImages())
    names = ["patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.qk"]
    assert [name.rpartition(".")[0] for name in seen] == names
    assert all(operand.watcher is None for operand in net.operands.values())


def test_an_operand_quantises_only_where_it_is_on_and_not_float() -> None:
    x = torch.tensor([[0.26]])
    for bits, on, expected in ((2, True, 0.3), (2, False, 0.26), (FLOAT_BITS, True, 0.26)):
        operand = Operand("input", bits, channel_axis=-1)
        operand.quantizer, operand.on = Uniform(2, torch.tensor(0.1), torch.tensor(0.0)), on
        assert operand(x).item() == pytest.approx(expected)
