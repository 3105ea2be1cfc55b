"""Small hybrid models with a bridge block, and images for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.efficientformer_v2 import EfficientFormerV2
from torch import Tensor, nn

from vitptq.bench.run.adapter_check import RandomImages


class FourImages(RandomImages):
    def batches(self) -> Iterator[Tensor]:
        for batch in super().batches():
            yield batch[:4]


class Larger(FourImages):
    def batches(self) -> Iterator[Tensor]:
        for batch in super().batches():
            yield nn.functional.interpolate(batch, size=64)


def tiny_mobilevit() -> nn.Module:
    torch.manual_seed(5)
    bottle = ByoBlockCfg(
        type="bottle", d=1, c=8, s=2, gs=1, br=2.0, block_kwargs={"bottle_in": True, "linear_out": True}
    )
    tokens = {"transformer_dim": 16, "transformer_depth": 1, "patch_size": 2}
    hybrid = ByoBlockCfg(type="mobilevit", d=1, c=8, s=1, block_kwargs=tokens)
    stem = {"stem_chs": 8, "stem_type": "3x3", "stem_pool": "", "downsample": "", "act_layer": "silu"}
    return ByobNet(
        ByoModelCfg(blocks=(bottle, (bottle, hybrid)), num_features=16, **stem), num_classes=10, img_size=32
    ).eval()


def tiny_efficientformerv2() -> nn.Module:
    torch.manual_seed(5)
    net = EfficientFormerV2(
        depths=(1, 1, 2, 2), embed_dims=(8, 8, 16, 16), img_size=64, num_vit=1, mlp_ratios=2.0, num_classes=10
    )
    with torch.no_grad():
        for module in net.modules():
            if hasattr(module, "gamma"):  # fresh layer scales hide what a branch does
                module.gamma.fill_(0.5)
    return net.eval()


HYBRIDS: dict[str, tuple[Any, Any]] = {
    "convolution to joint layer": (tiny_mobilevit, FourImages),
    "behind a residual sum, to three layers": (tiny_efficientformerv2, Larger),
}
