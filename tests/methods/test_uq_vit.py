"""UQ-ViT: what is behind the softmax, that the audit sees the floats, and the relation to RepQ-ViT."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.quantizers.log import LogSqrt2
from vitptq.methods.core.quantizers.row_maximum import RowMaximum
from vitptq.methods.repq_vit import RepQViT
from vitptq.methods.uq_vit import UQViT, UQViTStatic

W4A4 = BitSpec(4, 4)
FEW = {"alphas": (0.0,), "divisor_alphas": ()}


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_audit_is_clean_and_says_which_values_stay_in_float(name: str) -> None:
    model, images = two_block_models()[name], RandomImages()
    (batch,) = images.batches()
    net = UQViT(**FEW).quantize(model, images, W4A4)  # type: ignore[arg-type]
    found = audit(net, W4A4, batch[:1], images.forward, dynamic=True)
    kept = [side for side in found.operands if side.float_values]
    assert found.clean
    assert kept and all(side.quantizer == "RowMaximum" and side.group > 1 for side in kept)
    assert found.quantised_macs == found.macs - sum(side.macs // side.group for side in kept)


def test_the_fixed_form_keeps_no_floats_and_is_not_dynamic() -> None:
    images = RandomImages()
    (batch,) = images.batches()
    net = UQViTStatic(**FEW).quantize(two_block_models()["ViT"], images, W4A4)  # type: ignore[arg-type]
    quantizers = [type(module) for module in net.modules()]
    assert LogSqrt2 in quantizers and RowMaximum not in quantizers
    found = audit(net, W4A4, batch[:1], images.forward)
    assert found.clean and found.quantised_macs == found.macs
    assert UQViT.dynamic and not UQViTStatic.dynamic


def test_with_the_exponent_0_alone_the_fold_is_repq_vits() -> None:
    model, images = two_block_models()["ViT"], RandomImages()
    one = UQViT(**FEW).quantize(model, images, W4A4)  # type: ignore[arg-type]
    other = RepQViT(round_zero_point=False).quantize(model, images, W4A4)
    # of the first block, which both calibrate behind the same quantised patch embedding
    for name in ("norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias"):
        found, expected = (net.get_parameter(f"blocks.0.{name}") for net in (one, other))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_float_activations_are_refused() -> None:
    with pytest.raises(Unsupported, match="no form with float weights or activations"):
        UQViT().quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 32))
