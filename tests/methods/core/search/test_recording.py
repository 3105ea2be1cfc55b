"""What is recorded of each operator: all batches, in execution order, within a memory budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.search.operator_recordings import BITS, run
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Conv2d
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.search.recording import (
    MEGABYTE,
    FirstImages,
    all_values,
    joined,
    record,
    recorded_inputs,
    recordings,
    survey,
)

ORDER = ["patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.qk", "blocks.0.attn.av"]


class Halves(RandomImages):
    def batches(self) -> Iterator[Tensor]:
        yield from next(super().batches()).split(4)


def vit() -> PreparedModel:
    return prepare(two_block_models()["ViT"], BITS)


def test_operators_are_surveyed_in_execution_order_on_one_image() -> None:
    uses = survey(vit(), RandomImages())
    assert list(uses)[:4] == ORDER and list(uses)[-1] == "head" and len(uses) == 14
    assert {use.calls for use in uses.values()} == {1}
    assert uses["blocks.0.attn.qkv"].size == 4 * (17 * 32 + 2 * 17 * 96)


def test_an_operator_that_never_runs_is_refused() -> None:
    net = vit()
    net.model.unused = net.model.get_submodule("head").__class__(torch.nn.Linear(3, 3), BITS)
    with pytest.raises(Unsupported, match="unused did not run"):
        survey(net, RandomImages())


@pytest.mark.parametrize("name", ["layers.0.blocks.0.attn.av", "head.fc"])
def test_a_recording_holds_all_batches(name: str) -> None:
    net = prepare(two_block_models()["Swin"], BITS)
    operator = survey(net, RandomImages())[name].operator
    ((whole,),), ((halves,),) = (record(net, images, [operator]) for images in (RandomImages(), Halves()))
    torch.testing.assert_close(whole.output, halves.output)
    torch.testing.assert_close(run(operator, whole.first, whole.second), whole.output)


def test_operators_are_recorded_together_as_far_as_the_memory_allows() -> None:
    images, net = RandomImages(), vit()
    reads = {}
    for memory in (1, 2**19, 2**30):
        images.reads = 0
        found = list(recordings(net, images, memory))
        reads[memory] = images.reads
        assert [name for name, _, _ in found] == list(survey(net, images))
    assert reads[1] > reads[2**19] > reads[2**30]
    for _, operator, (one,) in found:
        ((alone,),) = record(net, images, [operator])
        assert torch.equal(alone.output, one.output) and torch.equal(alone.second, one.second)


def test_left_out_operators_are_not_recorded_and_gradients_are_relative_to_the_largest() -> None:
    net = vit()
    found = list(recordings(net, RandomImages(), MEGABYTE, gradient_point="sampled", without=ORDER))
    assert not {name for name, _, _ in found} & set(ORDER) and len(found) == 10
    gradients = [one.gradient for _, _, (one,) in found]
    assert all(g is not None and g.abs().amax() == 1 for g in gradients)


def test_inputs_come_once_per_operator_in_execution_order() -> None:
    found = {name: inputs for name, _, inputs in recorded_inputs(vit(), FirstImages(RandomImages(), 3))}
    assert list(found)[:4] == ORDER and len(found) == 14
    assert found["blocks.0.attn.qkv"].second[0].shape == (3 * 17, 32)
    assert found["blocks.0.attn.av"].first[0].shape == (3, 2, 17, 17)


def test_inputs_of_some_operators_only() -> None:
    net = vit()
    some = [net.model.get_submodule(name) for name in ("blocks.1.mlp.fc1", "blocks.0.attn.qk")]
    assert [name for name, _, _ in recorded_inputs(net, RandomImages(), some)] == [
        "blocks.0.attn.qk",
        "blocks.1.mlp.fc1",
    ]


class TwoSizes(RandomImages):
    """Images of two sizes by turns, for a convolution."""

    def batches(self) -> Iterator[Tensor]:
        for images, side in ((5, 8), (2, 6), (1, 8)):
            yield torch.arange(images * 3 * side**2).reshape(images, 3, side, side) / 100.0 + side


def test_images_of_each_size_have_a_recording_with_the_gradients_of_their_outputs() -> None:
    torch.manual_seed(0)
    layer = Conv2d(nn.Conv2d(3, 4, 3), BITS).requires_grad_(False)
    net = replace(vit(), model=nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()), operands={})
    images = TwoSizes()
    wide, narrow = record(net, images, [layer], [[layer(x) for batch in images.batches() for x in batch.split(2)]])[0]
    assert (len(wide.second), wide.second.shape[-1]) == (6, 8) and (len(narrow.second), narrow.second.shape[-1]) == (
        2,
        6,
    )
    assert wide.first is narrow.first
    largest = max(part.output.abs().amax().item() for part in (wide, narrow))
    for part in (wide, narrow):
        assert part.gradient is not None
        torch.testing.assert_close(part.output, layer(part.second))
        torch.testing.assert_close(part.gradient * largest, part.output)


@pytest.mark.parametrize("axis", [1, -1])
def test_values_of_all_sizes_keep_their_axis(axis: int) -> None:
    parts = [torch.randn(2, 3, 4, 3), torch.randn(1, 3, 2, 3)]
    found = all_values(parts, axis).movedim(axis, 0).flatten(1)
    torch.testing.assert_close(found, torch.cat([x.movedim(axis, 0).flatten(1) for x in parts], dim=1))


def test_a_block_on_images_of_different_sizes_is_refused_in_one_sentence() -> None:
    with pytest.raises(Unsupported, match=r"differ in size .*\(4, 8\) and \(5, 8\)"):
        joined([torch.zeros(2, 4, 8), torch.zeros(1, 5, 8)])
    assert joined([torch.zeros(2, 4), torch.zeros(1, 4)]).shape == (3, 4)
