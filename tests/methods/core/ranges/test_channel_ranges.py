"""The range of every channel over all batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import INPUT, RandomImages, two_block_models
from vitptq.methods.core.model.operands import watching
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.ranges.channel_ranges import channel_ranges


class TwoBatches(RandomImages):
    def batches(self) -> Iterator[Tensor]:
        for seed in (1, 2):
            yield torch.randn(2, *INPUT.shape, generator=torch.Generator().manual_seed(seed))


def test_ranges_hold_all_batches_channel_by_channel() -> None:
    net, images = prepare(two_block_models()["ViT"], BitSpec(4, 4)), TwoBatches()
    slot = net.operands["blocks.0.attn.qkv.input_operand"]
    seen: list[Tensor] = []
    with watching({slot.name: slot}, lambda _, x: seen.append(x.flatten(0, 1))):
        net.run(images)
    low, high = channel_ranges(net, images, [slot])[slot]
    rows = torch.cat(seen)
    assert torch.equal(low, rows.amin(0)) and torch.equal(high, rows.amax(0))
