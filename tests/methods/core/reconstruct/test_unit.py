"""A unit's two forms: tapped outputs."""

from __future__ import annotations

from typing import Any

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.reconstruct import (
    Settings,
    StepTensors,
    Unit,
    reconstruct,
)
from vitptq.methods.core.reconstruct.least_error_start import calibrated

BITS = BitSpec(3, 3)
FAST = Settings(iterations=4, batch=4, weight_rate=0.05, seed=3)


def test_taps_are_the_inner_outputs_of_both_units() -> None:
    net, twin = calibrated(two_block_models()["ViT"], RandomImages(), BITS)
    shapes: dict[str, Any] = {}

    def tapping(unit: Unit) -> Any:
        unit.tap("attn.av", "mlp.fc1")

        def loss(s: StepTensors) -> Any:
            shapes.update({name: tuple(x.shape[1:]) for name, x in s.inner.items()})
            assert not any(x.requires_grad for x in s.inner_targets.values())
            expected = unit.float_module.get_submodule("mlp.fc1")
            assert s.inner_targets["mlp.fc1"].shape[-1] == expected.out_features  # type: ignore[union-attr]
            return {
                "block": (s.output - s.target).square().mean(),
                "inner": sum((s.inner[n] - s.inner_targets[n]).square().mean() for n in s.inner),
            }

        return loss

    results = reconstruct(net, twin, RandomImages(), FAST, loss=tapping)
    assert shapes == {"attn.av": (2, 17, 16), "mlp.fc1": (17, 128)}
    assert set(results[0].before) == {"block", "inner"}
