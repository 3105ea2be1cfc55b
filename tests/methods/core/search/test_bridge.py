"""Bridge blocks run for many candidates at once, against a loop over the whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.search.hybrids import HYBRIDS, FourImages, tiny_mobilevit
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.families import Bridge
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.search.alternating import SlotSearch, operator_slots
from vitptq.methods.core.search.bridge import BlockLosses, BridgeRun, at_block_output, errors_now, switched_on
from vitptq.methods.core.search.candidates import by_index, symmetric, whole_tensor
from vitptq.methods.core.search.elimination import eliminate
from vitptq.methods.core.search.recording import MEGABYTE, record, set_on_first_batch
from vitptq.methods.core.sensitivity.fisher import output_gradients

FACTORS = torch.tensor([0.3, 0.8, 1.0])


def families(operator: Any, side: str, x: Tensor) -> list[Any]:
    return [symmetric(by_index(x, 0) if side == "first" else whole_tensor(), x, 4, FACTORS)]


def bridge_run(model: nn.Module, images: Calibration) -> tuple[PreparedModel, Bridge, BridgeRun, list[SlotSearch]]:
    """Return the last bridge block of a model, its slots at their default quantizers."""
    net = prepare(model, BitSpec(4, 4))
    set_on_first_batch(net, images, lambda name, operator, side, x: symmetric(whole_tensor(), x, 4, FACTORS).default())
    bridge = net.bridges()[-1]
    judged = [net.model.get_submodule(name) for name in (*bridge.outputs, bridge.members[0])]
    run = BridgeRun(net, images, bridge, output_gradients(net, images, judged, "quantised"))
    slots = [slot for operator, recording in run.members for slot in operator_slots(operator, [recording], families)]
    return net, bridge, run, slots


@pytest.fixture(params=HYBRIDS)
def hybrid(request: pytest.FixtureRequest) -> tuple[nn.Module, Calibration]:
    build, images = HYBRIDS[request.param]
    return build(), images()


@pytest.mark.parametrize("number", [0, 1])
def test_candidates_stacked_along_the_batch_equal_a_loop_over_the_whole_model(
    hybrid: tuple[nn.Module, Calibration], number: int
) -> None:
    model, images = hybrid
    net, bridge, run, slots = bridge_run(model, images)
    slot, candidates = slots[number], slots[number].families[0]
    losses = BlockLosses(run, slots, slot, candidates, None)
    stacked = losses.losses(torch.arange(3), slice(0, 4))[..., 0]
    shuffled = losses.ordered(torch.tensor([2, 0, 3, 1])).losses(torch.arange(3), slice(1, 3))[..., 0]
    torch.testing.assert_close(shuffled, stacked[:, [0, 3]])
    assert eliminate(losses, 3, step=1).place.item() == stacked.sum(1).argmin().item()

    ends: list[Any] = [net.model.get_submodule(name) for name in bridge.outputs]
    targets = record(net, images, ends)
    for k in range(3):
        with switched_on(
            {each.operand: each.quantizer for each in slots} | {slot.operand: candidates.quantizer(torch.tensor([k]))}
        ):
            now = record(net, images, ends)
        error = torch.zeros(4)
        for (out,), (target,), (_, recording) in zip(now, targets, run.members[1:], strict=True):
            assert recording.gradient is not None
            error += ((out.output - target.output) * recording.gradient).square().reshape(4, -1).sum(1)
        torch.testing.assert_close(stacked[k], error, rtol=2e-3, atol=1e-8)
    assert not any(each.on for each in net.operands.values())
    assert "forward" not in vars(net.model.get_submodule(bridge.members[0]))


def test_slots_of_the_last_layers_are_judged_by_what_enters_them(hybrid: tuple[nn.Module, Calibration]) -> None:
    model, images = hybrid
    net, bridge, run, slots = bridge_run(model, images)
    judge, slot = at_block_output(run, slots, MEGABYTE), slots[3]
    best = judge(slot, slot.families[0], None)
    end: Any = net.model.get_submodule(bridge.outputs[0])
    _, recording = run.members[1]
    losses = []
    for k in range(3):
        quantizers = {each.operand: each.quantizer for each in slots[:4]}
        with switched_on(quantizers | {slot.operand: slot.families[0].quantizer(torch.tensor([k]))}):
            ((now,),) = record(net, images, [end])
        losses.append(((now.output - recording.output) * recording.gradient).square().sum())
    assert best.place.item() == torch.stack(losses).argmin().item()
    torch.testing.assert_close(best.loss[0].float(), torch.stack(losses).amin(), rtol=1e-3, atol=1e-9)


def test_block_and_own_error_count_alike_at_the_starting_point() -> None:
    _, _, run, slots = bridge_run(tiny_mobilevit(), FourImages())
    losses = BlockLosses(run, slots, slots[0], slots[0].families[0], errors_now(run, slots))
    total = losses.losses(torch.tensor([2]), slice(0, 4)).sum()  # factor 1
    assert total.item() == pytest.approx(2, rel=1e-4)
