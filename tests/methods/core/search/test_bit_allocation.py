"""Greedy allotment of widths: within its average, by loss per bit, and what an operand is said to lose."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.methods.core.search.bit_allocation import AllotBy, allot_bits, greedy, nuclear_norm


def test_equal_operands_share_the_average() -> None:
    assert greedy([10, 10], [[4, 2, 1]] * 2, [3, 4, 5], 4.0) == [4, 4]


def test_the_operand_that_loses_most_keeps_its_width() -> None:
    assert greedy([10, 10], [[100, 50, 0], [2, 1, 0]], [3, 4, 5], 4.0) == [5, 3]


def test_a_loss_counts_per_bit_that_is_saved() -> None:
    # the large operand loses twice as much and saves ten times as many bits
    assert greedy([100, 10], [[2, 0], [1, 0]], [3, 4], 3.2) == [3, 4]


@pytest.mark.parametrize("average", [2.0, 2.5, 3.7, 5.0])
def test_the_average_is_never_exceeded(average: float) -> None:
    sizes = [7, 19, 3, 101]
    losses = torch.rand(4, 4, generator=torch.Generator().manual_seed(1)).sort(descending=True).values.tolist()
    found = greedy(sizes, losses, [2, 3, 4, 5], average)
    assert sum(n * b for n, b in zip(sizes, found, strict=True)) <= average * sum(sizes)


def test_the_nuclear_norm_by_hand() -> None:
    matrices = torch.stack([torch.diag(torch.tensor([1.0, 2.0])), torch.diag(torch.tensor([-3.0, 4.0]))])
    assert nuclear_norm(matrices).item() == pytest.approx(5.0)


def allotted(name: str, by: AllotBy) -> PreparedModel:
    net = prepare(two_block_models()[name], BitSpec(4, 4, mixed=True))
    allot_bits(net, RandomImages(), by, reach=1)
    return net


@pytest.mark.parametrize("by", ["nuclear", "divergence"])
@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_widths_differ_and_the_audit_finds_their_averages_kept(name: str, by: AllotBy) -> None:
    net = allotted(name, by)
    slots = [slot for slot in net.operands.values() if slot.role != "stem_input"]
    assert {slot.bits for slot in slots} == {3, 4, 5}
    assert all(slot.bits == 8 for slot in net.operands.values() if slot.role == "stem_input")
    observe_weights(net)
    observe_activations(net, RandomImages(), RunningMinMax)
    images = RandomImages()
    (batch,) = images.batches()
    found = audit(net.switch(True), net.bits, batch[:1], images.forward)
    assert found.clean
    assert {side.bits for side in found.operands} == {3, 4, 5, 8}


def test_an_even_allotment_is_the_nominal_width() -> None:
    assert {slot.bits for slot in allotted("ViT", "even").operands.values() if slot.role != "stem_input"} == {4}


def test_another_measure_of_loss_allots_other_widths() -> None:
    one, other = ([slot.bits for slot in allotted("ViT", by).operands.values()] for by in ("nuclear", "divergence"))
    assert one != other
