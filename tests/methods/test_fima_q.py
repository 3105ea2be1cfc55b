"""FIMA-Q: renewals, the weights of the two terms, scales per token, detectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.methods.core.model import openmmlab_models
from tests.methods.core.model.openmmlab_models import Images
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.errors import BadInput, Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.quantizers.token_uniform import TokenUniform
from vitptq.methods.core.reconstruct.trainer import Trainer
from vitptq.methods.fima_q import FIMAQ

W3A3 = BitSpec(3, 3)
FAST = FIMAQ(iterations=6, renewals=3, rounds=1, candidates=32, batch=4)


@pytest.mark.parametrize(("low_rank", "diagonal"), [(1.0, 1.0), (0.5, 2.0)])
def test_every_renewal_starts_at_the_sum_of_the_weights(
    low_rank: float, diagonal: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, list[float]] = {}
    step = Trainer.step

    def watched(self: Trainer, number: int) -> Any:
        value = step(self, number)
        values.setdefault(self.unit.name, []).append(value.item())
        return value

    monkeypatch.setattr(Trainer, "step", watched)
    method = replace(FAST, low_rank_weight=low_rank, diagonal_weight=diagonal)
    method.quantize(two_block_models()["ViT"], RandomImages(), W3A3)
    for name in ("patch_embed.proj", "blocks.0", "blocks.1"):
        assert [values[name][i] for i in (0, 2, 4)] == pytest.approx([low_rank + diagonal] * 3, rel=1e-4)
        assert values[name][1] != pytest.approx(low_rank + diagonal, rel=1e-4)
    assert values["head"][0] == pytest.approx(1)  # the divergence of the logits over its first value


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_training_brings_the_predictions_closer(name: str) -> None:
    with reporting.listening() as heard:
        method = replace(FAST, iterations=60, weight_rate=0.05, scale_rate=1e-3)
        method.quantize(two_block_models()[name], RandomImages(), W3A3)
    rows: Any = {row["unit"]: row for row in heard.tables["reconstruction"].rows}
    for row in rows.values():
        assert not row["kept"] or sum(row["after"].values()) <= sum(row["before"].values())
    blocks = [row for unit, row in rows.items() if "blocks" in unit]
    assert any(row["kept"] for row in blocks) and all(set(row["before"]) == {"loss"} for row in blocks)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_scales_per_token_pass_the_audit_and_are_trained(name: str) -> None:
    method = replace(FAST, scales="token", scale_rate=1e-3, iterations=30, weight_rate=0.05)
    images = next(RandomImages().batches())
    net = method.quantize(two_block_models()[name], RandomImages(), W3A3)
    assert not audit(net, W3A3, images[:1], RandomImages().forward).violations
    grids = [m for m in net.modules() if isinstance(m, TokenUniform)]
    assert len(grids) >= 2 * 6  # of each block: four layers' inputs and both sides of both products
    assert any(len(grid.scale.unique()) > len(grid.scale) // 2 for grid in grids)
    with pytest.raises(BadInput, match="scales per token"):
        grids[0](torch.zeros(1, 3, 3, 3))


def test_scales_per_token_refuse_images_of_several_sizes() -> None:
    pytest.importorskip("mmdet")
    method = replace(FAST, scales="token", iterations=1, rounds=0, candidates=8)
    with pytest.raises(Unsupported, match="images of one size"):
        method.quantize(openmmlab_models.upernet(), Images((32, 64), (40, 56)), BitSpec(4, 4))


def test_a_detector_with_images_of_several_sizes_has_its_backbone_weighted_and_its_heads_not() -> None:
    pytest.importorskip("mmdet")
    images, bits = Images((32, 64), (40, 56)), BitSpec.parse("W4A4+neck+heads")
    method = replace(FAST, iterations=2, renewals=2, rounds=0, candidates=8, batch=2)
    with reporting.listening() as heard:
        net = method.quantize(openmmlab_models.mask_rcnn(), images, bits)
    assert {"backbone.stages.0.blocks.0", "neck", "rpn_head"} <= {
        row["unit"] for row in heard.tables["reconstruction"].rows
    }
    assert not audit(net, bits, next(iter(images.batches()))[:1], images.forward).violations


def test_float_sides_are_refused() -> None:
    with pytest.raises(Unsupported, match="FIMA-Q has no form with float weights or activations"):
        FAST.quantize(two_block_models()["ViT"], RandomImages(), BitSpec(32, 8))


def test_mlps_can_be_reconstructed_first() -> None:
    method = replace(FAST, mlp=True, mlp_iterations=2, rotation="full")
    net = method.quantize(two_block_models()["ViT"], RandomImages(), W3A3)
    assert not any(isinstance(module, torch.nn.GELU) for module in net.modules())
    assert len(replace(FAST, mlp=True, mlp_iterations=2).notes()) == 2


def test_a_loss_that_is_never_made_is_refused() -> None:
    with pytest.raises(BadInput, match="renewals=0 of fima-q: allowed is 1 or more"):
        FIMAQ.configured({"renewals": 0})
