"""Models of the embedded edition: small members of real families, built by timm, with weights trained here.

The `_outlier` models compute the same function as the plain ones, with a few LayerNorm channels made far wider (see
`outlier.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.efficientformer_v2 import EfficientFormerV2
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitptq.tasks.mini.material import CLASSES
from vitptq.tasks.mini.outlier import Plan, widen

WEIGHTS = Path(__file__).parent / "weights"

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


class WeightsError(RuntimeError):
    """Weights that are missing or are not the published ones."""


@dataclass(frozen=True, slots=True)
class MiniModel:
    """One model: how it is built, whose weights it takes, and whether its channels are widened."""

    name: str
    family: str
    build: Callable[[], nn.Module]
    trained_as: str
    outlier: bool = False

    @property
    def weights(self) -> Path:
        """Return the file with the trained weights."""
        return WEIGHTS / f"{self.trained_as}.safetensors"

    @property
    def sha256(self) -> str:
        """Return the hash that the weights file must have."""
        return str(facts(self.trained_as)["sha256"])

    @property
    def float_top1(self) -> float:
        """Return the accuracy in percent on the 3,000 evaluation images, measured at the end of training."""
        return float(facts(self.trained_as)["top1"])

    @property
    def plan(self) -> Plan | None:
        """Return which LayerNorm channels are widened by which power of two, None for a plain model."""
        if not self.outlier:
            return None
        stored = facts(self.trained_as)["outlier_plan"]
        return {
            norm: [(int(channel), int(exponent)) for channel, exponent in chosen] for norm, chosen in stored.items()
        }


_ALL = (
    MiniModel("mini_vit", "vit", mini_vit, "mini_vit"),
    MiniModel("mini_vit_outlier", "vit", mini_vit, "mini_vit", outlier=True),
    MiniModel("mini_swin", "swin", mini_swin, "mini_swin"),
    MiniModel("mini_swin_outlier", "swin", mini_swin, "mini_swin", outlier=True),
    MiniModel("mini_mobilevit", "mobilevit", mini_mobilevit, "mini_mobilevit"),
    MiniModel("mini_mobilevitv2", "mobilevitv2", mini_mobilevitv2, "mini_mobilevitv2"),
    MiniModel("mini_efficientformerv2", "efficientformerv2", mini_efficientformerv2, "mini_efficientformerv2"),
)
MODELS: dict[str, MiniModel] = {model.name: model for model in _ALL}


def load(name: str) -> nn.Module:
    """Return the model with its trained weights, in eval mode."""
    if name not in MODELS:
        raise KeyError(f"unknown mini model {name!r}; known: {', '.join(sorted(MODELS))}")
    entry = MODELS[name]
    _check(entry)
    model = entry.build()
    model.load_state_dict(load_file(entry.weights))
    if entry.plan is not None:
        widen(model, entry.plan)
    return with_config(model.eval(), entry.name)


def with_config(model: nn.Module, name: str) -> nn.Module:
    """Attach the timm-style `pretrained_cfg` from which timm's data functions read input size and normalisation."""
    vars(model)["pretrained_cfg"] = {**DATA_CONFIG, "architecture": name, "num_classes": CLASSES}
    return model


def facts(name: str) -> dict[str, Any]:
    """Return what training wrote about the weights: hash, accuracy, recipe, widened channels."""
    path = WEIGHTS / f"{name}.json"
    if not path.exists():
        raise WeightsError(f"{path} is missing; train the model with: python -m vitptq.tasks.mini.train {name}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _check(entry: MiniModel) -> None:
    if not entry.weights.exists():
        raise WeightsError(
            f"{entry.weights} is missing; train it with: python -m vitptq.tasks.mini.train {entry.trained_as}"
        )
    found = hashlib.sha256(entry.weights.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise WeightsError(
            f"{entry.weights} has sha256 {found}, expected {entry.sha256}; restore the file or train again with: "
            f"python -m vitptq.tasks.mini.train {entry.trained_as}"
        )
