"""APHQ-ViT: the normalised loss, the grids behind ReLU, what the record is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.methods.core.model.openmmlab_models import Images, upernet
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods import aphq_vit
from vitptq.methods.aphq_vit import APHQViT
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct import all_units
from vitptq.methods.core.reconstruct.trainer import Trainer

FAST = APHQViT(iterations=2, mlp_iterations=2, rounds=1, candidates=32, draws=1)
W4A4 = BitSpec(4, 4)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
@pytest.mark.parametrize("hessian", ["perturbation", "fisher"])
def test_the_first_loss_of_every_unit_is_two(name: str, hessian: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first: dict[str, float] = {}
    step = Trainer.step

    def watched(self: Trainer, number: int) -> Any:
        value = step(self, number)
        if self.settings.normalise is not None and number == 1:
            first[self.unit.name] = value.item()
        return value

    monkeypatch.setattr(Trainer, "step", watched)
    model = two_block_models()[name]
    method = APHQViT(hessian=hessian, iterations=1, mlp_iterations=0, rounds=1, candidates=32, draws=1)
    method.quantize(model, RandomImages(), W4A4)
    assert set(first) == set(all_units(prepare(model, W4A4)))
    assert all(value == pytest.approx(2.0) for value in first.values())


def test_the_record_hears_of_the_hessian() -> None:
    with reporting.listening() as heard:
        FAST.quantize(two_block_models()["ViT"], RandomImages(), W4A4)
    table = heard.tables["Hessian"]
    rows: Any = {row["unit"]: row for row in table.rows}
    assert {"blocks.0", "blocks.1", "blocks.0.mlp", "blocks.1.mlp", "patch_embed.proj"} <= set(rows)
    assert all(-1 <= rows[u]["correlation with Fisher"] <= 1 for u in ("blocks.0", "blocks.0.mlp"))
    assert all(rows[u]["H grows by"] < 5 for u in ("blocks.0", "blocks.0.mlp"))  # noise; curvature would give 10
    assert "rounding noise" in table.text
    assert not heard.notes


def test_nothing_is_weighted_where_the_hessian_is_nought(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(net: Any, calibration: Any, units: Any, **options: Any) -> Any:
        return {name: torch.zeros(17, 32) for name in units}

    monkeypatch.setattr(aphq_vit, "average_perturbation_hessian", nothing)
    monkeypatch.setattr(aphq_vit, "fisher_mc", nothing)
    with reporting.listening() as heard:
        out = FAST.quantize(two_block_models()["ViT"], RandomImages(), W4A4)
    assert sum("has an H of 0" in text for text in heard.notes) == 3  # the head needs none
    assert all(p.isfinite().all() for p in out.parameters())


@pytest.mark.parametrize("bits", [BitSpec(4, 4), BitSpec(8, 8)])
def test_inputs_behind_relu_have_all_codes_and_factors_a_grid_per_head(bits: BitSpec) -> None:
    net = FAST.quantize(two_block_models()["ViT"], RandomImages(), bits)
    for block in net.blocks:  # type: ignore[union-attr]
        grid = block.mlp.fc2.input_operand.quantizer  # type: ignore[union-attr]
        assert isinstance(grid, Uniform) and grid.zero_point == 0
        for product in (block.attn.qk, block.attn.av):  # type: ignore[union-attr]
            for slot in (product.left_operand, product.right_operand):
                assert slot.quantizer.granularity == "head" and len(slot.quantizer.scale) == 2


def test_without_mlps_gelu_stays() -> None:
    method = APHQViT(mlp=False, iterations=2, rounds=1, candidates=32, draws=1, hessian="fisher")
    net = method.quantize(two_block_models()["ViT"], RandomImages(), W4A4)
    assert any(isinstance(module, torch.nn.GELU) for module in net.modules())
    assert APHQViT(iterations=2, mlp_iterations=2).notes() != APHQViT(mlp=False, iterations=2).notes()


def test_segmenters_with_heads_and_images_of_different_sizes() -> None:
    images, bits = Images((32, 64), (40, 56)), BitSpec.parse("W4A4+heads")
    net = APHQViT(iterations=1, mlp_iterations=1, rounds=0, candidates=8, draws=1).quantize(upernet(), images, bits)
    example = next(iter(images.batches()))[:1]
    found = audit(net, bits, example, images.forward)
    assert not found.violations


def test_float_sides_are_refused() -> None:
    with pytest.raises(Unsupported, match="float weights or activations"):
        FAST.quantize(two_block_models()["ViT"], RandomImages(), BitSpec(32, 8))
