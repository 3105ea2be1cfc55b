"""Observers: ranges over several batches, what is left in float, and slots that nothing enters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights, with_last


class Halves(RandomImages):
    """The same images in two batches."""

    def batches(self):  # type: ignore[no-untyped-def]
        for batch in super().batches():
            yield from batch.chunk(2)


def test_the_running_range_holds_every_batch() -> None:
    observer = RunningMinMax()
    observer.see(torch.tensor([[0.0, 2.0]]), bits=4, last=False)
    observer.see(torch.tensor([[-1.0, 1.0]]), bits=4, last=True)
    low, high = observer.range()
    assert (low.item(), high.item()) == (-1.0, 2.0)


def test_ranges_do_not_depend_on_how_images_are_batched() -> None:
    scales = []
    for images in (RandomImages(), Halves()):
        net = prepare(two_block_models()["ViT"], BitSpec(4, 4))
        observe_activations(net, images, RunningMinMax)
        quantizers = [operand.quantizer for operand in net.activations.values()]
        assert all(isinstance(quantizer, Uniform) for quantizer in quantizers)
        scales.append(torch.cat([quantizer.scale for quantizer in quantizers if isinstance(quantizer, Uniform)]))
    torch.testing.assert_close(*scales)


def test_weights_have_a_grid_per_output_channel() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 4))
    observe_weights(net, symmetric=True)
    operand = net.operands["blocks.0.mlp.fc1.weight_operand"]
    assert isinstance(operand.quantizer, Uniform)
    assert operand.quantizer.scale.shape == net.weight(operand).shape[:1]
    assert not operand.quantizer.zero_point.any()


def test_float_sides_get_no_quantizer() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(32, 8))
    observe_weights(net)
    observe_activations(net, RandomImages(), RunningMinMax)
    assert all(operand.quantizer is None for operand in net.weights.values())
    assert all(operand.quantizer is not None for operand in net.activations.values())


def test_a_slot_that_nothing_enters_is_named() -> None:
    net = prepare(two_block_models()["ViT"], BitSpec(4, 4))
    net.model.blocks[1].mlp.forward = lambda x: x
    with pytest.raises(Unsupported, match=r"blocks\.1\.mlp\.fc1\.input_operand did not run on the calibration set"):
        observe_activations(net, RandomImages(), RunningMinMax)


def test_batches_are_taken_one_ahead_and_the_last_is_told() -> None:
    taken: list[int] = []

    def batches() -> Iterator[int]:
        for number in range(4):
            taken.append(number)
            yield number

    seen = [(number, last, len(taken)) for number, last in with_last(batches())]
    assert seen == [(0, False, 2), (1, False, 3), (2, False, 4), (3, True, 4)]
    assert list(with_last(iter([7]))) == [(7, True)]
