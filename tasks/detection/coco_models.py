"""The published detectors: mmdet's configurations, checkpoints, and the keys of the Swin authors' files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor

from vitptq.bench.contracts.task import ModelCard
from vitptq.tasks.openmmlab.configs import packaged_config
from vitptq.tasks.openmmlab.libraries import library

TOLERANCE = 0.2
"""Published scores have one decimal; the rest is for other versions of the compiled operators and of the decoder."""
METAFILE = "https://github.com/open-mmlab/mmdetection/blob/main/configs/swin/metafile.yml"
AUTHORS = "https://github.com/SwinTransformer/Swin-Transformer-Object-Detection"
_ZOO = "https://download.openmmlab.com/mmdetection/v2.0/swin"
_RELEASE = "https://github.com/SwinTransformer/storage/releases/download/v1.0.2"
_MASK = "swin/mask-rcnn_swin-{}-p4-w7_fpn_amp-ms-crop-3x_coco.py"
_CASCADE = "_base_/models/cascade-mask-rcnn_r50_fpn.py"
_UNVERIFIED = (
    "the Swin authors' checkpoint, converted from mmdet 2's keys; they publish no hash, so the file is not pinned: the "
    "record keeps the sha256 of the one that was used"
)

CLASSES: tuple[str, ...] = tuple(
    """person, bicycle, car, motorcycle, airplane, bus, train, truck,
    boat, traffic light, fire hydrant, stop sign, parking meter, bench, bird, cat,
    dog, horse, sheep, cow, elephant, bear, zebra, giraffe,
    backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard,
    sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle,
    wine glass, cup, fork, knife, spoon, bowl, banana, apple,
    sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake,
    chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
    mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
    refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush""".replace(",\n    ", ", ").split(
        ", "
    )
)
"""COCO's classes, in the order of the checkpoints' outputs."""


@dataclass(frozen=True)
class Published:
    """One model: where its configuration and its checkpoint come from."""

    card: ModelCard
    config: str
    """Of the backbone, and of the whole detector unless it is a cascade; a path among mmdet's configurations."""
    url: str
    digest: str | None
    """The first hex digits of the checkpoint's sha256, as far as they are published."""
    cascade: bool = False
    width: int | None = None
    """Channels of the first stage, where they are not the configuration's."""

    @property
    def file(self) -> str:
        """Return the checkpoint's file name."""
        return self.url.rpartition("/")[2]


def _mask_rcnn(size: str, path: str, box: float, mask: float, others: str) -> Published:
    url = f"{_ZOO}/{path}"
    name = url.rpartition("/")[2]
    card = ModelCard(
        name=f"mask_rcnn_swin_{size}",
        family="swin",
        checkpoint=name,
        reference={"box_ap": box, "mask_ap": mask},
        tolerance=TOLERANCE,
        source=METAFILE,
        note=f"mmdet's checkpoint, scores of its metafile; papers print {others}, the Swin authors' own checkpoint",
    )
    return Published(card, _MASK.format(size), url, digest=name.removesuffix(".pth").rpartition("-")[2])


def _cascade(
    size: str, word: str, box: float, mask: float, *, like: str | None = None, width: int | None = None
) -> Published:
    """Return a cascade; `like` is the size whose configuration it shares but for its `width`."""
    url = f"{_RELEASE}/cascade_mask_rcnn_swin_{word}_patch4_window7.pth"
    card = ModelCard(
        name=f"cascade_mask_rcnn_swin_{size}",
        family="swin",
        checkpoint=f"{url} (no published hash)",
        reference={"box_ap": box, "mask_ap": mask},
        tolerance=TOLERANCE,
        source=AUTHORS,
        note=_UNVERIFIED,
    )
    return Published(card, _MASK.format(like or size), url, digest=None, cascade=True, width=width)


PUBLISHED: Mapping[str, Published] = {
    model.card.name: model
    for model in (
        _mask_rcnn(
            "t",
            "mask_rcnn_swin-t-p4-w7_fpn_fp16_ms-crop-3x_coco/"
            "mask_rcnn_swin-t-p4-w7_fpn_fp16_ms-crop-3x_coco_20210908_165006-90a4008c.pth",
            46.0,
            41.7,
            "46.0 / 41.6",
        ),
        _mask_rcnn(
            "s",
            "mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco/"
            "mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco_20210903_104808-b92c91f1.pth",
            48.2,
            43.2,
            "48.5 / 43.3",
        ),
        _cascade("t", "tiny", 50.4, 43.7),
        _cascade("s", "small", 51.9, 45.0),
        _cascade("b", "base", 51.9, 45.0, like="s", width=128),
    )
}


@cache
def config(model: str) -> Any:
    """Return a published model's config as plain dicts."""
    entry = PUBLISHED[model]
    whole = _mmdet_config(entry.config)
    whole = _widened(whole, entry.width) if entry.width else whole
    return _as_cascade(whole) if entry.cascade else whole


def _mmdet_config(path: str) -> Any:
    return packaged_config(path.removesuffix(".py"), "mmdet")["model"]


def _widened(mask_rcnn: Any, width: int) -> Any:
    """Return the config with `width` channels in the first stage, twice as many in each next, and 32 per head."""
    channels = [width * 2**stage for stage in range(4)]
    backbone = mask_rcnn["backbone"] | {"embed_dims": width, "num_heads": [count // 32 for count in channels]}
    return mask_rcnn | {"backbone": backbone, "neck": mask_rcnn["neck"] | {"in_channels": channels}}


def _as_cascade(mask_rcnn: Any) -> Any:
    """Return Cascade Mask R-CNN on the same backbone, with the box heads that the Swin authors trained.

    They have four convolutions and one linear layer, class-specific boxes and batch normalisation; that it was
    synchronised does not matter in evaluation. What only training reads stays mmdet's.
    """
    whole = _mmdet_config(_CASCADE)
    stages = whole["roi_head"]["bbox_head"]
    changes = {
        "type": "ConvFCBBoxHead", "num_shared_convs": 4, "num_shared_fcs": 1, "conv_out_channels": 256,
        "reg_class_agnostic": False, "reg_decoded_bbox": True, "norm_cfg": {"type": "BN"},
        "loss_bbox": {"type": "GIoULoss", "loss_weight": 10.0},
    }  # fmt: skip
    heads = [stage | changes for stage in stages]
    neck = whole["neck"] | {"in_channels": mask_rcnn["neck"]["in_channels"]}
    roi_head = whole["roi_head"] | {"bbox_head": heads}
    return whole | {"backbone": mask_rcnn["backbone"], "neck": neck, "roi_head": roi_head}


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the Swin authors' state dict with mmdet's names: only the backbone has others."""
    with library("mmdet"):
        from mmdet.models.backbones.swin import swin_converter

    backbone = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    rest = {key: value for key, value in state.items() if not key.startswith("backbone.")}
    return {**swin_converter(backbone), **rest}
