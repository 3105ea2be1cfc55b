"""Classifiers of the embedded edition: small members of real families, built by timm, with weights trained here.

The `_outlier` models compute the same function as the plain ones, with a few LayerNorm channels made far wider (see
`outlier.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.efficientformer_v2 import EfficientFormerV2
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitptq.tasks.mini.data.material import CLASSES
from vitptq.tasks.mini.models.outlier import Plan, widen
from vitptq.tasks.mini.models.shipped import ShippedModel, facts

INPUT_SIZE = (3, 32, 32)
MEAN = (0.47, 0.39, 0.37)
STD = (0.28, 0.24, 0.25)

# Same keys as timm's resolve_data_config gives for its own models.
DATA_CONFIG: dict[str, Any] = {
    "input_size": INPUT_SIZE,
    "interpolation": "bicubic",
    "mean": MEAN,
    "std": STD,
    "crop_pct": 1.0,
    "crop_mode": "center",
}


def mini_vit() -> nn.Module:
    """Build the ViT: 64 tokens of 4x4 pixels and a class token."""
    return VisionTransformer(img_size=32, patch_size=4, embed_dim=96, depth=6, num_heads=3, num_classes=CLASSES)


def mini_swin() -> nn.Module:
    """Build the Swin: the standard four stages, narrow, on 2x2 pixel patches and 4x4 windows."""
    return SwinTransformer(
        img_size=32,
        patch_size=2,
        embed_dim=32,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        num_classes=CLASSES,
        drop_path_rate=0.0,
    )


def mini_mobilevit() -> nn.Module:
    """Build the MobileViT (v1): as MobileViT-XXS, narrower and with two strides fewer, which suits 32 pixels."""
    config = ByoModelCfg(
        blocks=(
            _inverted_residual(depth=1, width=16, stride=1),
            _inverted_residual(depth=2, width=24, stride=1),
            _mobilevit(width=32, stride=1, tokens_width=48),
            _mobilevit(width=48, stride=2, tokens_width=64),
            _mobilevit(width=64, stride=2, tokens_width=80),
        ),
        stem_chs=16,
        stem_type="3x3",
        stem_pool="",
        downsample="",
        act_layer="silu",
        num_features=256,
    )
    return ByobNet(config, num_classes=CLASSES, img_size=32)


def mini_mobilevitv2() -> nn.Module:
    """Build the MobileViTv2: as MobileViTv2-0.5, narrower and with two strides fewer."""
    config = ByoModelCfg(
        blocks=(
            _inverted_residual(depth=1, width=24, stride=1),
            _inverted_residual(depth=2, width=32, stride=1),
            _mobilevitv2(width=96, stride=1, depth=2),
            _mobilevitv2(width=128, stride=2, depth=3),
            _mobilevitv2(width=160, stride=2, depth=2),
        ),
        stem_chs=16,
        stem_type="3x3",
        stem_pool="",
        downsample="",
        act_layer="silu",
    )
    return ByobNet(config, num_classes=CLASSES, img_size=32)


def mini_efficientformerv2() -> nn.Module:
    """Build the EfficientFormerV2: as S0, narrower and shallower, with strides of 1 in the stem and into stage 2.

    Its three kinds of attention work on 4x4 maps: strided in stage 2, from 8x8 to 4x4 between the stages, and plain.
    """
    # timm fixes the stem's stride to 4 and derives the attentions' maps from the image size; with a stride of 2, these
    # maps are the ones of an image of twice the side.
    model = EfficientFormerV2(
        depths=(1, 1, 2, 2),
        img_size=2 * INPUT_SIZE[1],
        embed_dims=(24, 48, 48, 72),
        downsamples=(False, True, False, True),
        num_vit=1,
        layer_scale_init_value=0.1,  # S0's 1e-5 is for a training of hundreds of epochs
        num_classes=CLASSES,
    )
    model.stem.conv1.conv.stride = (1, 1)
    return model


def _inverted_residual(*, depth: int, width: int, stride: int) -> ByoBlockCfg:
    return ByoBlockCfg(
        type="bottle", d=depth, c=width, s=stride, gs=1, br=2.0, block_kwargs={"bottle_in": True, "linear_out": True}
    )


def _mobilevit(*, width: int, stride: int, tokens_width: int) -> tuple[ByoBlockCfg, ByoBlockCfg]:
    attention = {"transformer_dim": tokens_width, "transformer_depth": 2, "patch_size": 2}
    return (
        _inverted_residual(depth=1, width=width, stride=stride),
        ByoBlockCfg(type="mobilevit", d=1, c=width, s=1, block_kwargs=attention),
    )


def _mobilevitv2(*, width: int, stride: int, depth: int) -> tuple[ByoBlockCfg, ByoBlockCfg]:
    attention = {"transformer_depth": depth, "patch_size": 2}
    return (
        _inverted_residual(depth=1, width=width, stride=stride),
        ByoBlockCfg(type="mobilevit2", d=1, c=width, s=1, br=0.5, gs=1, block_kwargs=attention),
    )


@dataclass(frozen=True, slots=True)
class Classifier(ShippedModel):
    """A classifier: how it is built, and whether its channels are widened."""

    build: Callable[[], nn.Module]
    plain: str = ""
    """The model whose weights a widened one takes; empty for a model that is not widened."""

    @property
    def trained_as(self) -> str:
        """Return the name of the weights."""
        return self.plain or self.name

    @property
    def scores(self) -> Mapping[str, float]:
        """Return the accuracy in percent on the 3,000 evaluation images, measured at the end of training."""
        return {"top1": float(facts(self.trained_as)["top1"])}

    @property
    def checkpoint(self) -> str:
        """Return the weights' hash, with the plan's for a widened model: it is other weights after loading."""
        if self.plan is None:
            return self.sha256
        plan = json.dumps(self.plan, sort_keys=True, separators=(",", ":"))
        return f"{self.sha256}:outlier-{hashlib.sha256(plan.encode()).hexdigest()[:16]}"

    @property
    def note(self) -> str:
        """Return what a reader of the model's card must know."""
        return "LayerNorm channels widened, same function as the plain model" if self.plain else ""

    @property
    def plan(self) -> Plan | None:
        """Return which LayerNorm channels are widened by which power of two, None for a plain model."""
        if not self.plain:
            return None
        stored = facts(self.trained_as)["outlier_plan"]
        return {
            norm: [(int(channel), int(exponent)) for channel, exponent in chosen] for norm, chosen in stored.items()
        }

    def load(self) -> nn.Module:
        """Return the model with its weights, in eval mode."""
        state = self.state()
        model = self.build()
        model.load_state_dict(state)
        if self.plan is not None:
            widen(model, self.plan)
        return with_config(model.eval(), self.name)


_ALL = (
    Classifier("mini_vit", "vit", mini_vit),
    Classifier("mini_vit_outlier", "vit", mini_vit, plain="mini_vit"),
    Classifier("mini_swin", "swin", mini_swin),
    Classifier("mini_swin_outlier", "swin", mini_swin, plain="mini_swin"),
    Classifier("mini_mobilevit", "mobilevit", mini_mobilevit),
    Classifier("mini_mobilevitv2", "mobilevitv2", mini_mobilevitv2),
    Classifier("mini_efficientformerv2", "efficientformerv2", mini_efficientformerv2),
)
CLASSIFIERS: dict[str, Classifier] = {model.name: model for model in _ALL}


def with_config(model: nn.Module, name: str) -> nn.Module:
    """Attach the timm-style `pretrained_cfg` from which timm's data functions read input size and normalisation."""
    vars(model)["pretrained_cfg"] = {**DATA_CONFIG, "architecture": name, "num_classes": CLASSES}
    return model
