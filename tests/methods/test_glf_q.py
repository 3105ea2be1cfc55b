"""GLF-Q: its two terms, what is trained and what is calibrated alone, grids, detectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.methods.core.model import openmmlab_models
from tests.methods.core.model.openmmlab_models import Images
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct.trainer import Trainer
from vitptq.methods.glf_q import GLFQ, features_apart

W3A3 = BitSpec(3, 3)
FAST = GLFQ(iterations=3, mlp_iterations=2, batch=8)


def quantised(method: GLFQ, name: str = "ViT") -> nn.Module:
    return method.quantize(two_block_models()[name], RandomImages(), W3A3)


@pytest.fixture
def first_steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    found: dict[str, float] = {}
    step = Trainer.step

    def watched(self: Trainer, number: int) -> Any:
        value = step(self, number)
        if self.settings.normalise is not None and number == 1:
            found[self.unit.name] = value.item()
        return value

    monkeypatch.setattr(Trainer, "step", watched)
    return found


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_features_start_at_one_and_the_blocks_own_error_at_its_weight(
    name: str, first_steps: dict[str, float]
) -> None:
    quantised(replace(FAST, local_weight=4.0), name)
    assert len(first_steps) == (2 if name == "ViT" else 3)
    assert all(value == pytest.approx(1 + 4) for value in first_steps.values())


OTHER_TERMS: list[tuple[dict[str, Any], float]] = [
    ({"supervision": "none"}, 1),
    ({"local_weight": 0.0}, 1),
    ({"supervision": "logits"}, 1 + 2),
    ({"supervision": "fisher"}, 1 + 1),
]


@pytest.mark.parametrize(("changed", "first"), OTHER_TERMS)
def test_other_terms_start_at_their_weights(
    changed: dict[str, Any], first: float, first_steps: dict[str, float]
) -> None:
    quantised(replace(FAST, **changed))
    assert all(value == pytest.approx(first) for value in first_steps.values())


def test_a_very_large_local_weight_is_the_blocks_own_error_alone() -> None:
    alone, large = (
        quantised(replace(FAST, mlp=False, **changed)).state_dict()
        for changed in ({"supervision": "none"}, {"local_weight": 1e9})
    )
    weights = [name for name in alone if name.endswith("weight")]  # the gradient of a key's bias is noise around 0
    for name in weights:
        torch.testing.assert_close(large[name], alone[name], rtol=1e-3, atol=1e-5)


def test_no_steps_leave_the_calibrated_model() -> None:
    still, again, moved = (
        quantised(replace(FAST, mlp=False, **changed)).state_dict()
        for changed in ({"iterations": 0}, {"iterations": 0, "supervision": "none"}, {"rate": 1e-3})
    )
    assert all(torch.equal(x, again[name]) for name, x in still.items())
    trained = {name for name, x in still.items() if not torch.equal(x, moved[name])}
    assert trained and all(name.startswith("blocks.") for name in trained)


def test_grids_are_uniform_one_per_tensor_and_one_per_output_channel() -> None:
    net = quantised(FAST)
    found = {(type(m), m.granularity) for m in net.modules() if isinstance(m, Uniform)}
    assert found == {(Uniform, "tensor"), (Uniform, "channel")}
    assert not any(isinstance(m, nn.GELU) for m in net.modules())


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_training_lowers_both_terms_of_the_first_block(name: str) -> None:
    with reporting.listening() as heard:
        quantised(GLFQ(iterations=60, rate=1e-3, scale_rate=1e-3, batch=8, mlp=False), name)
    row: Any = heard.tables["reconstruction"].rows[0]
    assert row["kept"] and row["after"]["local"] < row["before"]["local"]
    assert row["after"]["global"] < row["before"]["global"]


def test_several_maps_count_by_their_variance() -> None:
    expected = (torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 6.0]]))
    actual = (expected[0] + 1, expected[1])
    torch.testing.assert_close(features_apart(actual, expected), 1 / expected[0].var())
    torch.testing.assert_close(features_apart(actual[:1], expected[:1]), torch.tensor(1.0))


def test_a_detector_trains_backbone_and_neck_and_calibrates_its_heads() -> None:
    pytest.importorskip("mmdet")
    images, bits = Images((32, 64), (40, 56)), BitSpec.parse("W4A4+neck+heads")
    with reporting.listening() as heard:
        net = replace(FAST, iterations=1, batch=2).quantize(openmmlab_models.mask_rcnn(), images, bits)
    rows: Any = {row["unit"]: row for row in heard.tables["reconstruction"].rows}
    assert {name.partition(".")[0] for name in rows} == {"backbone", "neck"}
    assert set(rows["neck"]["before"]) == {"loss"}
    assert set(rows["backbone.stages.0.blocks.0"]["before"]) == {"global", "local"}
    assert not audit(net, bits, next(iter(images.batches()))[:1], images.forward).violations


def test_fewer_steps_than_the_papers_are_noted() -> None:
    assert GLFQ().notes() == []
    assert len(GLFQ(iterations=10, mlp_iterations=10).notes()) == 2
    assert len(GLFQ(iterations=10, mlp=False, mlp_iterations=10).notes()) == 1
