"""Tiny detectors and segmenters of OpenMMLab's libraries, with random weights, for the tests of methods."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration, InputSpec
from vitptq.bench.run.adapter_check import CPU

SWIN = {
    "type": "SwinTransformer",
    "embed_dims": 16,
    "patch_size": 2,
    "window_size": 4,
    "depths": (2, 2, 1, 1),
    "num_heads": (1, 2, 2, 4),
    "strides": (2, 2, 2, 2),
}
WIDTHS = [16, 32, 64, 128]
CODER = {"type": "DeltaXYWHBBoxCoder"}
BOX_HEAD = {
    "type": "Shared2FCBBoxHead",
    "in_channels": 16,
    "fc_out_channels": 24,
    "roi_feat_size": 7,
    "num_classes": 3,
    "bbox_coder": CODER,
}
MASK_HEAD = {"type": "FCNMaskHead", "num_convs": 1, "in_channels": 16, "conv_out_channels": 16, "num_classes": 3}
LOSS = {"type": "CrossEntropyLoss", "avg_non_ignore": True}
"""mmseg warns about the other form."""
UPER_HEAD = {
    "type": "UPerHead",
    "in_index": (0, 1, 2, 3),
    "pool_scales": (1, 2),
    "channels": 16,
    "num_classes": 5,
    "norm_cfg": {"type": "BN"},
    "loss_decode": LOSS,
    "align_corners": False,
}
FCN_HEAD = {
    "type": "FCNHead",
    "in_channels": 64,
    "in_index": 2,
    "channels": 8,
    "num_convs": 1,
    "num_classes": 5,
    "norm_cfg": {"type": "BN"},
    "loss_decode": LOSS,
}
BOXES = torch.tensor([[0, 1, 2, 20, 24], [0, 8, 4, 36, 30], [1, 5, 5, 12, 17]]).float()
"""Fixed proposals: (image, x1, y1, x2, y2) in pixels."""


def mask_rcnn(*, cascade: bool = False) -> nn.Module:
    """Return a Mask R-CNN or Cascade Mask R-CNN of mmdet with a Swin of 16 channels."""
    stages = 3 if cascade else 1
    roi_head = {
        "type": "CascadeRoIHead" if cascade else "StandardRoIHead",
        "bbox_roi_extractor": _extractor(7),
        "mask_roi_extractor": _extractor(14),
        "bbox_head": [{**BOX_HEAD, "reg_class_agnostic": True}] * stages if cascade else BOX_HEAD,
        "mask_head": MASK_HEAD,
    }
    if cascade:
        roi_head |= {"num_stages": stages, "stage_loss_weights": [1, 0.5, 0.25]}
    nms = {"type": "nms", "iou_threshold": 0.7}
    rpn = {"nms_pre": 30, "max_per_img": 8, "nms": nms, "min_bbox_size": 0}
    rcnn = {"score_thr": 0.0, "nms": nms, "max_per_img": 5, "mask_thr_binary": 0.5}
    return built(
        "mmdet",
        {
            "type": "CascadeRCNN" if cascade else "MaskRCNN",
            "backbone": SWIN,
            "neck": {"type": "FPN", "in_channels": WIDTHS, "out_channels": 16, "num_outs": 5},
            "rpn_head": {
                "type": "RPNHead",
                "in_channels": 16,
                "feat_channels": 16,
                "anchor_generator": {
                    "type": "AnchorGenerator",
                    "scales": [4],
                    "ratios": [0.5, 1.0, 2.0],
                    "strides": [2, 4, 8, 16, 32],
                },
                "bbox_coder": CODER,
            },
            "roi_head": roi_head,
            "train_cfg": None,
            "test_cfg": {"rpn": rpn, "rcnn": rcnn},
        },
    )


def upernet() -> nn.Module:
    """Return an UPerNet of mmseg with a Swin of 16 channels and an auxiliary head, which only training uses."""
    config = {"type": "EncoderDecoder", "backbone": SWIN, "decode_head": {**UPER_HEAD, "in_channels": WIDTHS}}
    return built("mmseg", config | {"auxiliary_head": FCN_HEAD, "test_cfg": {"mode": "whole"}})


def deit_upernet() -> nn.Module:
    """Return an UPerNet of mmseg with a DeiT of 32 channels and four blocks."""
    backbone = {"type": "VisionTransformer", "img_size": 32, "patch_size": 4, "embed_dims": 32, "num_layers": 4}
    backbone |= {"num_heads": 2, "mlp_ratio": 2, "out_indices": (0, 1, 2, 3), "norm_cfg": {"type": "LN", "eps": 1e-6}}
    neck = {"type": "MultiLevelNeck", "in_channels": [32] * 4, "out_channels": 16, "scales": [4, 2, 1, 0.5]}
    head = {**UPER_HEAD, "in_channels": [16] * 4}
    config = {"type": "EncoderDecoder", "backbone": backbone, "neck": neck, "decode_head": head}
    return built("mmseg", config | {"test_cfg": {"mode": "whole"}})


def bare_swin() -> nn.Module:
    """Return mmdet's Swin alone."""
    return built("mmdet", SWIN)


def _extractor(size: int) -> dict[str, Any]:
    layer = {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0}
    return {"type": "SingleRoIExtractor", "roi_layer": layer, "out_channels": 16, "featmap_strides": [2, 4, 8, 16]}


def built(library: str, config: dict[str, Any]) -> nn.Module:
    """Build with `library` (mmdet or mmseg), in eval mode, and give what starts as zero or one other values."""
    importlib.import_module(f"{library}.models")
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope

    torch.manual_seed(3)
    with DefaultScope.overwrite_default_scope(library):
        model = importlib.import_module(f"{library}.registry").MODELS.build(ConfigDict(config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("relative_position_bias_table"):
                parameter.normal_()
        for module in model.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.weight.uniform_(0.3, 2)
                module.bias.normal_(std=0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                module.bias.normal_(std=0.1)
    model.eval()
    return model


def outputs(model: Any, images: Tensor) -> tuple[Tensor, ...]:
    """Return everything that a model computes without data samples: features, then each head's predictions."""
    if hasattr(model, "decode_head"):
        features = tuple(model.extract_feat(images))
        return *features, model.decode_head.forward(features)
    if not hasattr(model, "roi_head"):
        return tuple(model(images))
    features = tuple(model.extract_feat(images))
    scores, deltas = model.rpn_head(features)
    boxes = BOXES[BOXES[:, 0] < len(images)].to(images.device)
    return *features, *scores, *deltas, *_roi_outputs(model.roi_head, features, boxes)


def _roi_outputs(roi_head: Any, features: tuple[Tensor, ...], boxes: Tensor) -> Iterator[Tensor]:
    for kind in ("bbox", "mask"):
        extractors, heads = getattr(roi_head, f"{kind}_roi_extractor"), getattr(roi_head, f"{kind}_head")
        several = isinstance(heads, nn.ModuleList)
        for extract, head in zip(extractors, heads, strict=True) if several else [(extractors, heads)]:
            found = head(extract(features[: extract.num_inputs], boxes))
            yield from (found,) if kind == "mask" else found


class Images(Calibration):
    """Two batches of random images, of different sizes."""

    def __init__(self, *sizes: tuple[int, int], device: torch.device = CPU) -> None:
        self.input = InputSpec((3, *sizes[0]), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.device = device
        self.sizes = sizes

    def batches(self) -> Iterator[Tensor]:
        """Yield (2, 3, height, width) per size."""
        draw = torch.Generator().manual_seed(2)
        for size in self.sizes:
            yield torch.randn(2, 3, *size, generator=draw).to(self.device)

    def forward(self, model: nn.Module, batch: Any) -> tuple[Tensor, ...]:
        """Return the features and the predictions of all heads for fixed proposals."""
        return outputs(model, batch)
