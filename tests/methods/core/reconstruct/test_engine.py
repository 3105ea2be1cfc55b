"""The engine: what is trained, what stays, and that it repeats."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.reconstruct.sizes_model import UNITS, Sizes, stages
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct import (
    Settings,
    StepTensors,
    Unit,
    all_units,
    block_units,
    layer_units,
    reconstruct,
    squared_error,
)
from vitptq.methods.core.reconstruct.least_error_start import calibrated

BITS = BitSpec(3, 3)
FAST = Settings(iterations=20, batch=4, weight_rate=2e-2, scale_rate=1e-3, seed=3)
SHORT = Settings(iterations=4, batch=4, weight_rate=0.05, scale_rate=1e-2, seed=3)


def nets(name: str = "ViT", bits: BitSpec = BITS) -> tuple[PreparedModel, PreparedModel]:
    return calibrated(two_block_models()[name], RandomImages(), bits)


def states(net: PreparedModel) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in net.model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(x, right[name]) for name, x in left.items())


@pytest.fixture(scope="module", params=["ViT", "Swin"])
def trained(request: pytest.FixtureRequest) -> Any:
    net, twin = nets(request.param)
    before, before_twin = states(net), states(twin)
    results = reconstruct(net, twin, RandomImages(), FAST, units=all_units(net))
    return request.param, net, twin, before, before_twin, results


def test_errors_fall(trained: Any) -> None:
    *_, results = trained
    assert all(r.kept == (r.after["loss"] <= r.before["loss"]) for r in results)
    assert sum(r.after["loss"] < 0.98 * r.before["loss"] for r in results) >= len(results) // 2


def test_units_come_in_execution_order(trained: Any) -> None:
    name, *_, results = trained
    vit = ["patch_embed.proj", "blocks.0", "blocks.1", "head"]
    swin = ["patch_embed.proj", "layers.0.blocks.0", "layers.1.downsample", "layers.1.blocks.0", "head.fc"]
    assert [r.name for r in results] == (vit if name == "ViT" else swin)


def test_norms_biases_and_the_twin_stay_and_weights_and_scales_move(trained: Any) -> None:
    _, net, twin, before, before_twin, _ = trained
    assert same(states(twin), before_twin)
    after = states(net)
    still = {n for n, x in before.items() if torch.equal(x, after[n])}
    assert all(n in still for n in before if n.endswith(("bias", "zero_point")) or ".norm" in n)
    moved = set(before) - still
    assert any(n.endswith("weight") for n in moved)
    assert any(n.endswith("input_operand.quantizer.scale") for n in moved)
    assert not any("weight_operand" in n for n in moved)
    assert not any(x.requires_grad for x in net.model.state_dict(keep_vars=True).values())


def test_hard_weights_stay_where_plain_rounding_finds_them(trained: Any) -> None:
    _, net, _, before, *_ = trained
    for operand in net.weights.values():
        weight, name = net.weight(operand), operand.name.rpartition(".")[0] + ".weight"
        scale = operand.quantizer.scale.reshape(-1, *[1] * (weight.ndim - 1))
        if torch.equal(weight, before[name]):
            continue  # went back to the state before
        steps = weight / scale
        assert (steps - steps.round()).abs().max() < 1e-4
        assert ((before[name] - weight) / scale).abs().max() < 1 + 1e-4


def test_the_same_seed_gives_the_same_bits_whatever_the_global_generator_did() -> None:
    found = []
    for number in range(2):
        torch.manual_seed(number)
        net, twin = nets()
        torch.rand(number + 1)
        reconstruct(net, twin, RandomImages(), FAST)
        found.append(states(net))
    assert same(*found)


def test_another_seed_gives_other_weights() -> None:
    found = []
    for seed in (1, 2):
        net, twin = nets()
        reconstruct(net, twin, RandomImages(), Settings(iterations=20, batch=4, weight_rate=2e-2, seed=seed))
        found.append(states(net))
    assert not same(*found)


def test_everything_in_float_is_learned_without_error() -> None:
    net, twin = nets(bits=BitSpec(32, 32))
    results = reconstruct(net, twin, RandomImages(), FAST)
    assert all(r.before["loss"] == 0 == r.after["loss"] for r in results)


def test_units_are_any_modules() -> None:
    net, twin = nets()
    before = states(net)
    settings = Settings(
        iterations=5, batch=4, input="float", weights="ste", weight_rate=1e-3, biases=True, scales=False
    )
    results = reconstruct(net, twin, RandomImages(), settings, units=["blocks.1.mlp"])
    after = states(net)
    assert [r.name for r in results] == ["blocks.1.mlp"]
    assert {n for n in before if not torch.equal(before[n], after[n])} == {
        f"blocks.1.mlp.{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")
    }


def test_layers_inside_windows_are_units() -> None:
    net, twin = nets("Swin")
    results = reconstruct(net, twin, RandomImages(), FAST, units=layer_units(net))
    assert len(results) == len(net.weights)


def test_the_record_is_told() -> None:
    net, twin = nets()
    with reporting.listening() as heard:
        reconstruct(net, twin, RandomImages(), FAST)
    assert heard.notes == []
    assert [row["unit"] for row in heard.tables["reconstruction"].rows] == block_units(net)


def test_unknown_unit_is_refused() -> None:
    from vitptq.bench.errors import BadInput

    net, twin = nets()
    with pytest.raises(BadInput, match='no module "blocks.9" to reconstruct; its blocks: blocks.0, blocks.1'):
        reconstruct(net, twin, RandomImages(), FAST, units=["blocks.9"])


def test_a_failing_loss_leaves_no_training_form_behind() -> None:
    net, twin = nets()
    before = states(net)

    def broken(unit: Any) -> Any:
        def loss(seen: Any) -> Tensor:
            if seen.output.requires_grad:
                raise ValueError("broken")
            return seen.output.sum()

        return loss

    with pytest.raises(ValueError, match="broken"):
        reconstruct(net, twin, RandomImages(), FAST, loss=broken)
    assert same(states(net), before)
    assert isinstance(net.model, nn.Module)


def test_progress_tells_block_loss_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitptq.methods.core.reconstruct.engine.REPORT_EVERY_S", 0.0)
    said: list[tuple[str, int, int]] = []
    net, twin = nets()
    with reporting.listening(lambda *what: said.append(what)):
        reconstruct(net, twin, RandomImages(), FAST)
    assert len(said) == 40
    step, done, total = said[-1]
    assert re.fullmatch(r"reconstruction: block 2/2, loss [\d.e-]+, 0 s left", step)
    assert done == total == 40


def test_units_with_nested_arguments_and_several_sizes_are_trained() -> None:
    net, twin = stages()
    before = states(net)
    results = reconstruct(net, twin, Sizes(), replace(SHORT, iterations=15), units=UNITS)
    assert [r.name for r in results] == UNITS
    assert sum(r.after["loss"] < r.before["loss"] for r in results) >= 3
    assert any(not torch.equal(before[n], x) for n, x in states(net).items())


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

        reconstruct(net, twin, RandomImages(), replace(SHORT, iterations=0), loss=keep)
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

    reconstruct(net, twin, RandomImages(), SHORT, loss=keep, units=all_units(net))
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
        reconstruct(net, twin, RandomImages(), replace(SHORT, batch=8), loss=short)
    assert max(sizes[3:]) == 2 and sizes[:3] == [8, 4, 2]
    assert heard.notes == ["memory ran out: batches of 8 were computed in 4 parts, their gradients added"]
