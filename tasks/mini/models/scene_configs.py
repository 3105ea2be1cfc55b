"""OpenMMLab configurations of the embedded detectors and of the segmenter: small, for scenes of 96 pixels."""

from __future__ import annotations

from typing import Any

from vitptq.tasks.mini.data.material import CLASSES
from vitptq.tasks.mini.data.scenes import SEGMENT_CLASSES
from vitptq.tasks.mini.models.classifiers import MEAN, STD

Config = dict[str, Any]

WIDTHS = (32, 64, 128, 256)
CHANNELS = 64
STRIDES = (2, 4, 8, 16, 32)


def mask_rcnn_swin() -> Config:
    """Return the configuration of Mask R-CNN."""
    return {
        "type": "MaskRCNN",
        **_detector(),
        "roi_head": {
            "type": "StandardRoIHead",
            "bbox_roi_extractor": _roi_extractor(size=7, finest=16),
            "bbox_head": _box_head(stds=(0.1, 0.1, 0.2, 0.2), class_agnostic=False),
            **_mask_branch(),
        },
        "train_cfg": {**_train_proposals(), "rcnn": _train_regions(iou=0.5)},
        "test_cfg": _test(),
    }


def cascade_mask_rcnn_swin() -> Config:
    """Return the configuration of Cascade Mask R-CNN with the usual three stages."""
    stds = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
    return {
        "type": "CascadeRCNN",
        **_detector(),
        "roi_head": {
            "type": "CascadeRoIHead",
            "num_stages": 3,
            "stage_loss_weights": [1, 0.5, 0.25],
            "bbox_roi_extractor": _roi_extractor(size=7, finest=16),
            "bbox_head": [_box_head(stds=values, class_agnostic=True) for values in stds],
            **_mask_branch(),
        },
        "train_cfg": {**_train_proposals(), "rcnn": [_train_regions(iou=iou) for iou in (0.5, 0.6, 0.7)]},
        "test_cfg": _test(),
    }


def upernet_swin() -> Config:
    """Return the configuration of UPerNet."""
    return {
        "type": "EncoderDecoder",
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            **_normalisation(),
            "size_divisor": 32,
            "pad_val": 0,
            "seg_pad_val": 255,
            "test_cfg": {"size_divisor": 32},
        },
        "backbone": _backbone(),
        "decode_head": {
            "type": "UPerHead",
            "in_channels": list(WIDTHS),
            "in_index": [0, 1, 2, 3],
            "pool_scales": (1, 2, 3, 6),
            "channels": CHANNELS,
            "dropout_ratio": 0.1,
            "num_classes": len(SEGMENT_CLASSES),
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "align_corners": False,
            "loss_decode": {"type": "CrossEntropyLoss", "avg_non_ignore": True, "loss_weight": 1.0},
        },
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }


def _normalisation() -> Config:
    return {
        "mean": [255 * value for value in MEAN],
        "std": [255 * value for value in STD],
        "bgr_to_rgb": True,
    }


def _backbone() -> Config:
    return {
        "type": "SwinTransformer",
        "pretrain_img_size": 96,
        "embed_dims": WIDTHS[0],
        "patch_size": 2,
        "window_size": 4,
        "mlp_ratio": 4,
        "depths": (2, 2, 2, 2),
        "num_heads": (1, 2, 4, 8),
        "strides": (2, 2, 2, 2),
        "out_indices": (0, 1, 2, 3),
        "qkv_bias": True,
        "patch_norm": True,
        "drop_path_rate": 0.0,
        "with_cp": False,
    }


def _detector() -> Config:
    """Return what is in front of the RoI heads."""
    return {
        "data_preprocessor": {
            "type": "DetDataPreprocessor",
            **_normalisation(),
            "pad_mask": True,
            "pad_size_divisor": 32,
        },
        "backbone": _backbone(),
        "neck": {"type": "FPN", "in_channels": list(WIDTHS), "out_channels": CHANNELS, "num_outs": len(STRIDES)},
        "rpn_head": {
            "type": "RPNHead",
            "in_channels": CHANNELS,
            "feat_channels": CHANNELS,
            # Squares of 8, 12, 16, 24, 32, 48, ... pixels and their stretched forms: digits are 13 to 53 pixels long.
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": [4, 6],
                "ratios": [0.5, 1.0, 2.0],
                "strides": list(STRIDES),
            },
            "bbox_coder": _box_coder((1.0, 1.0, 1.0, 1.0)),
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": {"type": "SmoothL1Loss", "beta": 1 / 9, "loss_weight": 1.0},
        },
    }


def _roi_extractor(*, size: int, finest: int) -> Config:
    """Return an extractor that takes regions of less than twice `finest` pixels from the finest level."""
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": size, "sampling_ratio": 0},
        "out_channels": CHANNELS,
        "featmap_strides": list(STRIDES[:4]),
        "finest_scale": finest,
    }


def _box_head(*, stds: tuple[float, ...], class_agnostic: bool) -> Config:
    return {
        "type": "Shared2FCBBoxHead",
        "in_channels": CHANNELS,
        "fc_out_channels": 2 * CHANNELS,
        "roi_feat_size": 7,
        "num_classes": CLASSES,
        "bbox_coder": _box_coder(stds),
        "reg_class_agnostic": class_agnostic,
        "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
        "loss_bbox": {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0},
    }


def _mask_branch() -> Config:
    return {
        # Strokes are thin, so all masks of up to 56 pixels come from the finest level.
        "mask_roi_extractor": _roi_extractor(size=14, finest=28),
        "mask_head": {
            "type": "FCNMaskHead",
            "num_convs": 4,
            "in_channels": CHANNELS,
            "conv_out_channels": CHANNELS,
            "num_classes": CLASSES,
            "loss_mask": {"type": "CrossEntropyLoss", "use_mask": True, "loss_weight": 1.0},
        },
    }


def _box_coder(stds: tuple[float, ...]) -> Config:
    return {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0, 0.0, 0.0, 0.0], "target_stds": list(stds)}


def _train_proposals() -> Config:
    return {
        "rpn": {
            "assigner": _assigner(positive=0.7, negative=0.3, least=0.3, low_quality=True),
            "sampler": _sampler(count=128, share=0.5, add_truth=False),
            "allowed_border": -1,
            "pos_weight": -1,
            "debug": False,
        },
        "rpn_proposal": {
            "nms_pre": 400,
            "max_per_img": 200,
            "nms": {"type": "nms", "iou_threshold": 0.7},
            "min_bbox_size": 0,
        },
    }


def _train_regions(*, iou: float) -> Config:
    return {
        "assigner": _assigner(positive=iou, negative=iou, least=iou, low_quality=False),
        "sampler": _sampler(count=64, share=0.25, add_truth=True),
        "mask_size": 28,
        "pos_weight": -1,
        "debug": False,
    }


def _assigner(*, positive: float, negative: float, least: float, low_quality: bool) -> Config:
    return {
        "type": "MaxIoUAssigner",
        "pos_iou_thr": positive,
        "neg_iou_thr": negative,
        "min_pos_iou": least,
        "match_low_quality": low_quality,
        "ignore_iof_thr": -1,
    }


def _sampler(*, count: int, share: float, add_truth: bool) -> Config:
    return {
        "type": "RandomSampler",
        "num": count,
        "pos_fraction": share,
        "neg_pos_ub": -1,
        "add_gt_as_proposals": add_truth,
    }


def _test() -> Config:
    return {
        "rpn": {
            "nms_pre": 200,
            "max_per_img": 100,
            "nms": {"type": "nms", "iou_threshold": 0.7},
            "min_bbox_size": 0,
        },
        "rcnn": {
            "score_thr": 0.05,
            "nms": {"type": "nms", "iou_threshold": 0.5},
            "max_per_img": 30,
            "mask_thr_binary": 0.5,
        },
    }
