"""FQ-ViT on operands alone: near the float model at 8 bits, and audited."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.quantizers.integer import IntegerLayerNorm
from vitptq.methods.fq_vit_operands import FQViTOperands


def test_audit_reports_the_seventeenth_value_of_the_released_softmax() -> None:
    model, images = two_block_models()["ViT"], RandomImages()
    batch = next(images.batches())
    quantised = FQViTOperands(lis_zero=True).quantize(model, images, BitSpec(8, 8))
    violations = audit(quantised, BitSpec(8, 8), batch[:1], images.forward).violations
    assert violations and all("17 values, 4 bits allow 16" in text for text in violations)


@pytest.mark.parametrize("options", [{}, {"integer_norm": False}, {"integer_softmax": False}])
@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_eight_bits_stay_close_to_the_float_model(name: str, options: dict[str, Any]) -> None:
    model, images = two_block_models()[name], RandomImages()
    quantised = FQViTOperands(**options).quantize(model, images, BitSpec(8, 8))
    batch = next(images.batches())
    with torch.no_grad():
        expected, actual = model(batch), quantised(batch)
    # an untrained ViT loses that much: its class token near zero shares a scale with the patches
    assert (actual - expected).norm() < 0.25 * expected.norm()
    integer = [m for m in quantised.modules() if isinstance(m, IntegerLayerNorm)]
    assert len(integer) == (
        0 if "integer_norm" in options else sum(isinstance(m, nn.LayerNorm) for m in model.modules())
    )
    assert not any(isinstance(m, nn.LayerNorm) for m in quantised.modules()) or "integer_norm" in options
