"""The search at a module's output: least loss wins, other slots stay off, batches may differ in size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.methods.core.model import openmmlab_models
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.methods.core.search.module_run import Call, ModuleRun, squared_error, stretched, switched
from vitptq.methods.core.search.recording import sides

FACTORS = (1.0, 0.8, 0.6, 0.4)


class TwoBatches(RandomImages):
    def batches(self) -> Iterator[Tensor]:
        (batch,) = super().batches()
        yield from batch.split(6)


def started() -> PreparedModel:
    net = prepare(two_block_models()["ViT"], BitSpec(3, 3))
    observe_weights(net)
    observe_activations(net, RandomImages(), RunningMinMax)
    return net


def test_the_candidate_of_least_loss_wins() -> None:
    net = started()
    layer = net.model.get_submodule("blocks.0.mlp.fc1")
    weight, read = sides(layer)  # type: ignore[arg-type]
    run, options = ModuleRun(net, RandomImages(), layer), stretched(read.quantizer, FACTORS)
    losses = []
    for option in options:
        read.quantizer = option
        with switched(net, [weight, read]):
            losses.append(run.loss(squared_error))
    run.search([weight, read], lambda slot: options if slot is read else [], squared_error, rounds=1)
    assert read.quantizer is options[int(torch.stack(losses).argmin())]
    assert not any(slot.on for slot in net.operands.values())


def test_a_block_s_loss_is_that_of_the_block_with_these_slots_alone() -> None:
    net, images = started(), TwoBatches()
    block, slots = net.model.get_submodule("blocks.0"), [net.operands["blocks.0.mlp.fc1.input_operand"]]
    run = ModuleRun(net, images, block)
    assert len(run.calls) == 2 and run.loss(squared_error) == 0
    with switched(net, slots):
        found = run.loss(squared_error)
        expected = sum((block(call.args[0]) - call.target).square().sum().item() for call in run.calls)
    assert found.item() == pytest.approx(expected) and found > 0


def test_gradients_belong_to_their_batch_and_are_at_most_one() -> None:
    whole, parted = (
        ModuleRun(net, images, net.model.get_submodule("blocks.0"), gradients=True).calls
        for net, images in ((started(), RandomImages()), (started(), TwoBatches()))
    )
    joined = torch.cat([_gradient(call) for call in parted])
    assert joined.shape == whole[0].target.shape
    assert max(_gradient(call).abs().max() for call in parted) == 1


def _gradient(call: Call) -> Tensor:
    assert call.gradient is not None
    return call.gradient


def test_stretched_grids_keep_their_zero_points_and_granularity() -> None:
    grid = Uniform(4, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), axis=0, granularity="channel")
    (found,) = stretched(grid, [0.5])
    assert isinstance(found, Uniform)
    assert found.scale.tolist() == [0.5, 1.0] and found.zero_point.tolist() == [3, 4]
    assert (found.axis, found.granularity, found.low) == (0, "channel", 0)


def test_images_may_differ_in_size() -> None:
    pytest.importorskip("mmseg")
    net, images = prepare(openmmlab_models.upernet(), BitSpec(4, 4)), openmmlab_models.Images((32, 32), (48, 32))
    observe_weights(net)
    observe_activations(net, images, RunningMinMax)
    run = ModuleRun(net, images, net.model.get_submodule("backbone.stages.1.blocks.0"), gradients=True)
    shapes = [(call.target.shape, _gradient(call).shape) for call in run.calls]
    assert len({target for target, _ in shapes}) == 2
    assert all(target == gradient for target, gradient in shapes)
