"""A block between the quantised prefix and the float model's output."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations
from vitptq.methods.core.search.behind_prefix import BehindPrefix
from vitptq.methods.core.search.module_run import squared_error


@pytest.mark.parametrize(("model", "block"), [("ViT", "blocks.1"), ("Swin", "layers.1.blocks.0")])
def test_behind_a_float_prefix_a_float_block_has_no_error(model: str, block: str) -> None:
    net, twin = (prepare(two_block_models()[model], BitSpec(4, 4)) for _ in range(2))
    run = BehindPrefix(net, twin, RandomImages(), block)
    assert run.loss(squared_error) == 0


def test_inputs_are_those_behind_the_quantised_blocks_and_targets_the_float_models() -> None:
    net, twin = (prepare(two_block_models()["ViT"], BitSpec(4, 4)) for _ in range(2))
    observe_activations(net, RandomImages(), RunningMinMax)
    for name, slot in net.activations.items():
        slot.on = name.startswith("blocks.0.")
    run, plain = (BehindPrefix(each, twin, RandomImages(), "blocks.1") for each in (net, twin))
    assert not torch.equal(run.calls[0].args[0], plain.calls[0].args[0])
    assert torch.equal(run.calls[0].target, plain.calls[0].target)
    assert run.loss(squared_error) > 0


def test_slots_are_read_by_channel() -> None:
    net, twin = (prepare(two_block_models()["ViT"], BitSpec(4, 4)) for _ in range(2))
    run = BehindPrefix(net, twin, RandomImages(), "blocks.0")
    slot = net.operands["blocks.0.attn.qkv.input_operand"]
    (seen,) = run.read([slot]).values()
    x = run.module.norm1(run.calls[0].args[0])  # type: ignore[operator]
    assert torch.equal(seen, x.flatten(0, 1).T)
