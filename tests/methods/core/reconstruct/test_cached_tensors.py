"""Cached inputs and targets: where they come from, where they lie, how mini-batches are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import CPU, RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.reconstruct import (
    PerSample,
    Settings,
    StepTensors,
    Unit,
    all_units,
    reconstruct,
    squared_error,
)
from vitptq.methods.core.reconstruct.cached_tensors import CachedTensors, CacheMemory, CallRows
from vitptq.methods.core.reconstruct.layout import Layout
from vitptq.methods.core.reconstruct.least_error_start import calibrated
from vitptq.methods.core.reconstruct.plan import plan
from vitptq.methods.core.reconstruct.trainer import numbers

BITS = BitSpec(3, 3)
FAST = Settings(iterations=4, batch=4, weight_rate=0.05, scale_rate=1e-2, seed=3)


class Shapes(nn.Module):
    """A block called as OpenMMLab's: with a shape beside the tokens, both also put out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor, shape: tuple[int, int], *, more: dict[str, Tensor]) -> tuple[Tensor, tuple[int, int]]:
        height, width = shape
        assert x.shape[1] == height * width
        return x + self.fc(self.norm(x)) + more["bias"], shape


class Stages(nn.Module):
    """Tokens of maps of any size, two blocks, and a neck that takes a tuple of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.ModuleList([Shapes(), Shapes()])
        self.neck = Neck()
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        shape = (x.shape[2], x.shape[3])
        maps = [x]
        tokens = x.flatten(2).transpose(1, 2)
        bias = torch.full((8,), 0.1)
        for block in self.blocks:
            tokens, shape = block(tokens, shape, more={"bias": bias})
            maps.append(tokens.transpose(1, 2).unflatten(2, shape))
        return tuple(self.head(x) for x in self.neck(tuple(maps)))


class Neck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(8, 8, 1) for _ in range(3)])

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self.lateral, maps, strict=True)]


class Sizes(RandomImages):
    """Three batches: two shapes, and one of them twice with different numbers of images."""

    def batches(self) -> Iterator[Tensor]:
        images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(7))
        yield images[:3]
        yield images[3:5, :, :12]
        yield images[5:]

    def forward(self, model: nn.Module, batch: Any) -> Any:
        return model(batch)


def stages(bits: BitSpec = BITS) -> tuple[PreparedModel, PreparedModel]:
    """Return the model above with its operands in slots; its family is a ViT's in name only."""
    from vitptq.methods.core.model.operands import Operand
    from vitptq.methods.core.model.prepare import _replace
    from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights

    found = []
    for _ in range(2):
        torch.manual_seed(2)
        model = Stages().eval().requires_grad_(False)
        family = prepare(two_block_models()["ViT"], bits).family
        _replace(model, family, bits, {}, root=True)
        operands = {n: m for n, m in model.named_modules() if isinstance(m, Operand)}
        for name, operand in operands.items():
            operand.name = name
        found.append(PreparedModel(model, family, bits, operands))
    net, twin = found
    observe_weights(net)
    observe_activations(net, Sizes(), RunningMinMax)
    net.switch(True)
    return net, twin


UNITS = ["stem", "blocks.0", "blocks.1", "neck", "head"]


def states(net: PreparedModel) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in net.model.state_dict().items()}


def test_layout_takes_a_tree_apart_and_joins_it() -> None:
    x, y, constant = torch.randn(6, 2), torch.randn(12, 2), torch.randn(5)
    tree = ((x, (3, 4), constant), {"mask": None, "windows": y})
    layout = Layout.of(tree, 6, rows=True)
    tensors = layout.split(tree)
    assert [tuple(t.shape) for t in tensors] == [(6, 2), (6, 2, 2)]
    (first, shape, kept), more = layout.join([t[:2] for t in tensors])
    assert torch.equal(first, x[:2]) and torch.equal(more["windows"], y[:4])
    assert shape == (3, 4) and kept is constant and more["mask"] is None


def test_plan_of_batches_of_several_sizes() -> None:
    net, _ = stages()
    stem, first, second, neck, head = plan(net, Sizes(), UNITS)
    assert [u.name for u in (stem, first, second, neck, head)] == UNITS
    assert first.sizes == [6, 2]
    assert [(e.group, e.start, e.stop, e.first) for e in first.entries] == [(0, 0, 3, 0), (1, 0, 2, 3), (0, 3, 6, 5)]
    assert first.link is None and second.link == (0,) and neck.link is None
    assert head.samples == 3 * 8  # three maps of each image


def test_units_with_nested_arguments_and_several_sizes_are_trained() -> None:
    net, twin = stages()
    before = states(net)
    results = reconstruct(net, twin, Sizes(), replace(FAST, iterations=15), units=UNITS)
    assert [r.name for r in results] == UNITS
    assert sum(r.after["loss"] < r.before["loss"] for r in results) >= 3
    assert any(not torch.equal(before[n], x) for n, x in states(net).items())


def test_numbers_of_samples_are_those_of_the_images() -> None:
    net, twin = stages()
    found = plan(net, Sizes(), ["blocks.0"])[0]
    unit = Unit(found, 0, net, twin, Sizes())
    assert numbers(unit, 0, torch.tensor([0, 4, 2])).tolist() == [0, 6, 2]
    assert numbers(unit, 1, torch.tensor([1])).tolist() == [4]


def test_values_per_sample_of_several_shapes() -> None:
    values = PerSample([torch.arange(6.0).view(3, 2), torch.arange(8.0).view(2, 4), torch.arange(6.0).view(3, 2) + 10])
    assert values(torch.tensor([6, 0])).tolist() == [[12, 13], [0, 1]]
    assert values(torch.tensor([4])).tolist() == [[4, 5, 6, 7]]
    assert PerSample([torch.zeros(2, 1), torch.ones(2, 1)])(torch.tensor([2, 1])).tolist() == [[1], [0]]


def test_spilled_caches_give_the_same_bits() -> None:
    found = []
    for memory in (2**30, 200_000, 0):
        net, twin = calibrated(two_block_models()["Swin"], RandomImages(), BITS)
        reconstruct(net, twin, RandomImages(), replace(FAST, memory=memory))
        found.append(states(net))
    assert all(torch.equal(x, other[name]) for other in found[1:] for name, x in found[0].items())


def test_memory_stays_within_its_budget_and_gets_it_back() -> None:
    memory = CacheMemory(1000, CPU)
    samples = CachedTensors(memory, [10])
    samples.write(CallRows(0, 0, 10, 0, 0), [torch.ones(10, 20), torch.ones(10, 10)])
    assert memory.spilled == 400
    samples.release()
    assert memory.empty((10, 20), torch.float32).numel() == 200 and memory.spilled == 400


def inputs_of(unit: Unit) -> Tensor:
    assert unit.inputs is not None
    return unit.inputs.groups[0][0].clone()


@pytest.mark.parametrize(("disturbed", "changes"), [("blocks.0.mlp.fc2", True), ("blocks.1.mlp.fc2", False)])
def test_quantised_inputs_depend_on_earlier_units_only(disturbed: str, changes: bool) -> None:
    found = []
    for factor in (1.0, 1.5):
        net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
        with torch.no_grad():
            net.model.get_submodule(disturbed).weight.mul_(factor)  # type: ignore[operator, union-attr]

        def keep(unit: Unit) -> Any:
            if unit.name == "blocks.1":
                found.append(inputs_of(unit))
            return squared_error(unit)

        reconstruct(net, twin, RandomImages(), replace(FAST, iterations=0), loss=keep)
    assert torch.equal(*found) != changes


def test_linked_inputs_are_those_of_a_whole_forward_pass() -> None:
    seen: dict[str, Tensor] = {}
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)

    def keep(unit: Unit) -> Any:
        expected: list[Tensor] = []

        def enter(module: nn.Module, args: Any) -> None:
            expected.append(args[0].detach().clone())

        handle = unit.module.register_forward_pre_hook(enter)
        with torch.no_grad():
            net.model(next(RandomImages().batches()))
        handle.remove()
        seen[unit.name] = inputs_of(unit)
        assert torch.equal(seen[unit.name], expected[0])
        return squared_error(unit)

    reconstruct(net, twin, RandomImages(), FAST, loss=keep, units=all_units(net))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no room"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_batches_are_split_where_memory_runs_out(error: Exception) -> None:
    sizes: list[int] = []

    def short(unit: Unit) -> Any:
        plain = squared_error(unit)

        def loss(seen: StepTensors) -> Any:
            if seen.output.requires_grad:
                sizes.append(len(seen.output))
                if len(seen.output) > 2:
                    raise error
            return plain(seen)

        return loss

    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    with reporting.listening() as heard:
        reconstruct(net, twin, RandomImages(), replace(FAST, batch=8), loss=short)
    assert max(sizes[3:]) == 2 and sizes[:3] == [8, 4, 2]
    assert heard.notes == ["memory ran out: batches of 8 were computed in 4 parts, their gradients added"]


def test_parts_of_a_batch_give_its_gradient() -> None:
    found = []
    for parts in (1, 4):
        net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
        from vitptq.methods.core.reconstruct import engine
        from vitptq.methods.core.reconstruct.trainer import Trainer

        def first_gradients(unit: Unit, parts: int = parts) -> Any:
            trainer = Trainer(
                unit, replace(FAST, batch=8, quantised_probability=1.0, input="quantised"), squared_error(unit), parts
            )
            with torch.enable_grad():
                trainer._gradients(0, torch.arange(8))
            found.append([form.alpha.grad.clone() for form in trainer.rounded.values() if form.alpha.grad is not None])
            trainer.close()
            return squared_error(unit)

        engine.reconstruct(
            net, twin, RandomImages(), replace(FAST, iterations=0), loss=first_gradients, units=["blocks.0"]
        )
    for whole, split in zip(*found, strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-3, atol=1e-7)
