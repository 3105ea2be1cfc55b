"""A segmenter of the embedded edition on a pretrained backbone: a linear layer on its patch tokens, built by mmseg.

The scenes are enlarged to `SIDE` pixels; logits, one per patch of 14 pixels, are resized to the label map's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from vitptq.tasks.mini.data.scenes import SEGMENT_CLASSES
from vitptq.tasks.mini.models import dinov2
from vitptq.tasks.mini.models.pretrained import OnDinov2
from vitptq.tasks.mini.models.scene_configs import Config
from vitptq.tasks.mini.models.scene_models import SceneModel, widened
from vitptq.tasks.mini.models.vit_conversion import openmmlab_vit_state
from vitptq.tasks.openmmlab.models import build

SIDE = 224


@dataclass(frozen=True, slots=True)
class PretrainedSegmenter(OnDinov2, SceneModel):
    """A segmenter with a linear head."""

    @property
    def side(self) -> int:
        """Return the size to which scenes are enlarged."""
        return SIDE

    def without_head(self) -> nn.Module:
        """Return the network with the pretrained backbone and an untrained head, in eval mode."""
        model: Any = build(self.config(), self.scope)
        model.backbone.load_state_dict(openmmlab_vit_state(dinov2.backbone(SIDE)))
        network: nn.Module = model
        return network

    def load(self) -> nn.Module:
        """Return the model with its weights, in eval mode."""
        head = widened(self.state())
        model: Any = self.without_head()
        model.decode_head.load_state_dict(head)
        network: nn.Module = model
        return network


def linear_on_dinov2() -> Config:
    """Return the configuration: DINOv2's ViT-S/14 and a 1x1 convolution."""
    return {
        "type": "EncoderDecoder",
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "mean": [255 * value for value in dinov2.MEAN],
            "std": [255 * value for value in dinov2.STD],
            "bgr_to_rgb": True,
            "size_divisor": dinov2.PATCH,
            "pad_val": 0,
            "seg_pad_val": 255,
            "test_cfg": {"size_divisor": dinov2.PATCH},
        },
        "backbone": {
            "type": "VisionTransformer",
            "img_size": SIDE,
            "patch_size": dinov2.PATCH,
            "patch_bias": True,
            "embed_dims": dinov2.WIDTH,
            "num_layers": 12,
            "num_heads": 6,
            "mlp_ratio": 4,
            "qkv_bias": True,
            "norm_cfg": {"type": "LN", "eps": 1e-6},
            "final_norm": True,
            "interpolate_mode": "bicubic",
        },
        "decode_head": {
            "type": "FCNHead",
            "in_channels": dinov2.WIDTH,
            "channels": dinov2.WIDTH,
            "num_convs": 0,
            "concat_input": False,
            "in_index": 0,
            "num_classes": len(SEGMENT_CLASSES),
            "dropout_ratio": 0,
            "align_corners": False,
            "loss_decode": {"type": "CrossEntropyLoss", "avg_non_ignore": True, "loss_weight": 1.0},
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }


_ALL = (PretrainedSegmenter("dinov2_vits14_linear", "vit", "ade20k", linear_on_dinov2),)
PRETRAINED_SEGMENTERS: dict[str, PretrainedSegmenter] = {model.name: model for model in _ALL}
