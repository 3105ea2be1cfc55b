"""Mini-batches: their rows, the samples' numbers of these, and that drawing ahead changes no draw."""

from __future__ import annotations

from itertools import islice

import torch

from tests.methods.core.reconstruct.sizes_model import Sizes, stages
from vitptq.bench.run.adapter_check import CPU
from vitptq.methods.core.reconstruct.cached_tensors import CallRows
from vitptq.methods.core.reconstruct.mini_batches import endless, mini_batches, sample_numbers
from vitptq.methods.core.reconstruct.plan import UnitPlan, plan


def two_sizes() -> UnitPlan:
    net, _ = stages()
    return plan(net, Sizes(), ["blocks.0"])[0]


def test_numbers_of_samples_are_those_of_the_images() -> None:
    batches = mini_batches(two_sizes(), [(0, torch.tensor([0, 4, 2])), (1, torch.tensor([1]))], CPU)
    assert [batch.samples.here.tolist() for batch in batches] == [[0, 6, 2], [4]]
    assert [batch.rows.here.tolist() for batch in batches] == [[0, 4, 2], [1]]


def test_parts_are_the_whole_in_order() -> None:
    (batch,) = mini_batches(two_sizes(), [(0, torch.tensor([3, 0, 4, 2]))], CPU)
    parts = list(batch.parts(3))
    assert [len(part) for part in parts] == [2, 1, 1]
    assert torch.cat([part.samples.there for part in parts]).tolist() == batch.samples.here.tolist()


def test_drawing_ahead_changes_no_draw() -> None:
    found = []
    for ahead in (1, 5):
        order = torch.Generator().manual_seed(4)
        drawn = islice(endless(two_sizes(), 3, order, CPU, ahead), 12)
        found.append([(batch.group, batch.rows.here.tolist()) for batch in drawn])
    assert found[0] == found[1]
    assert {group for group, _ in found[0]} == {0, 1}


def test_rows_of_a_group_skip_the_calls_of_others() -> None:
    entries = [CallRows(0, 0, 2, batch=0, first=0), CallRows(0, 2, 4, batch=2, first=5)]
    assert sample_numbers(entries, torch.tensor([3, 0, 2])).tolist() == [6, 0, 5]
