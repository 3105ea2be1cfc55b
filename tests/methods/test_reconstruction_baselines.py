"""AdaRound, BRECQ and QDrop: what each trains, and what it leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.adaround import AdaRound
from vitptq.methods.brecq import BRECQ
from vitptq.methods.core.reconstruct.least_error_start import calibrated
from vitptq.methods.qdrop import QDrop

BITS = BitSpec(3, 3)
FAST = {"iterations": 12, "batch": 4, "weight_rate": 0.05}
METHODS = [
    AdaRound(**FAST),
    AdaRound(**FAST, unit="block"),
    BRECQ(**FAST, scale_iterations=6, scale_rate=1e-2),
    BRECQ(**FAST, scale_iterations=0, weighting="none"),
    BRECQ(**FAST, scale_iterations=6, scale_rate=1e-2, activations="quantised"),
    BRECQ(**FAST, scale_iterations=6, scale_rate=1e-2, scale_error="weighted"),
    AdaRound(**FAST, activations="quantised"),
    QDrop(**FAST, scale_rate=1e-2),
]


def quantised(method: Any) -> tuple[nn.Module, dict[str, list[Any]]]:
    with reporting.listening() as heard:
        model = method.quantize(two_block_models()["ViT"], RandomImages(), BITS)
    return model, {name: list(table.rows) for name, table in heard.tables.items()}


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name} {getattr(m, 'unit', '')}")
def test_training_moves_weights_and_scales_and_passes_the_audit(method: Any) -> None:
    model, tables = quantised(method)
    start, _ = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    before, after = start.model.state_dict(), model.state_dict()
    moved = {name for name, x in before.items() if not torch.equal(x, after[name])}
    scales = {name for name in moved if name.endswith("scale")}
    assert {name for name in moved - scales if not name.endswith(".weight")} == set()
    assert moved - scales
    assert bool(scales) == (isinstance(method, QDrop) or (isinstance(method, BRECQ) and method.scale_iterations > 0))
    images = next(RandomImages().batches())
    assert audit(model, BITS, images[:1], RandomImages().forward).violations == ()
    assert all(row["after"]["loss"] <= row["before"]["loss"] for rows in tables.values() for row in rows if row["kept"])


@pytest.mark.parametrize("cls", [AdaRound, BRECQ])
def test_the_rounding_is_learned_with_the_activations_as_asked(cls: Any) -> None:
    fast = {"iterations": 12, "batch": 4, "weight_rate": 0.05}
    plain, seeing = (quantised(cls(**fast, activations=a))[0].state_dict() for a in ("float", "quantised"))
    assert any(not torch.equal(plain[name], seeing[name]) for name in plain if name.endswith("mlp.fc1.weight"))


@pytest.mark.parametrize(("cls", "paper"), [(AdaRound, 10_000), (BRECQ, 20_000), (QDrop, 20_000)])
def test_fewer_steps_than_the_papers_are_noted(cls: Any, paper: int) -> None:
    assert cls(iterations=paper).notes() == []
    assert cls(iterations=500).notes() == [f"reduced: 500 steps per unit, the paper takes {paper}"]
