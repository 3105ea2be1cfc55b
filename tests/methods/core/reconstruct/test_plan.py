"""The plan: how units are called, in batches of several sizes, and which one is last."""

from __future__ import annotations

from typing import Any

from tests.methods.core.reconstruct.sizes_model import UNITS, Sizes, stages
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.reconstruct import (
    Settings,
    Unit,
    all_units,
    divergence,
    reconstruct,
    squared_error,
)
from vitptq.methods.core.reconstruct.least_error_start import calibrated
from vitptq.methods.core.reconstruct.plan import plan

BITS = BitSpec(3, 3)
FAST = Settings(iterations=4, batch=4, weight_rate=0.05, seed=3)


def test_final_unit_is_the_one_whose_output_is_the_models() -> None:
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    final = []

    def make(unit: Unit) -> Any:
        final.append((unit.name, unit.final))
        return divergence(unit) if unit.final else squared_error(unit)

    reconstruct(net, twin, RandomImages(), FAST, loss=make, units=all_units(net))
    assert [name for name, is_final in final if is_final] == ["head"]


def test_plan_of_batches_of_several_sizes() -> None:
    net, _ = stages()
    stem, first, second, neck, head = plan(net, Sizes(), UNITS)
    assert [u.name for u in (stem, first, second, neck, head)] == UNITS
    assert first.sizes == [6, 2]
    assert [(e.group, e.start, e.stop, e.first) for e in first.entries] == [(0, 0, 3, 0), (1, 0, 2, 3), (0, 3, 6, 5)]
    assert first.link is None and second.link == (0,) and neck.link is None
    assert head.samples == 3 * 8  # three maps of each image
