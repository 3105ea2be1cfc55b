"""The published classifiers: exact timm tags, their float references and where these come from."""

from __future__ import annotations

from collections.abc import Mapping

from vitptq.bench.contracts.task import ModelCard
from vitptq.tasks.families import family_groups

TOLERANCE = 0.1
SOURCE = "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv"


DISTILLED = "two heads, whose logits are averaged"


def _card(tag: str, family: str, top1: float, note: str = "", *, read: str = "crop 0.9") -> ModelCard:
    full = f"{read}, bicubic, as in the checkpoint's data config"
    return ModelCard(
        name=tag,
        family=family,
        checkpoint=tag,
        reference={"top1": top1},
        tolerance=TOLERANCE,
        source=SOURCE,
        note=f"{full}; {note}" if note else full,
        groups=family_groups(family),
    )


def _at_384(tag: str, family: str, top1: float, note: str = "") -> ModelCard:
    return _card(tag, family, top1, note, read="384 pixels, crop 1.0")


def _mobilevit(tag: str, top1: float, note: str = "") -> ModelCard:
    return _card(
        f"{tag}.cvnets_in1k", "mobilevit", top1, note, read="256 pixels, pixel values not normalised, crop 0.9"
    )


def _mobilevitv2(width: str, top1: float, note: str = "") -> ModelCard:
    read = "256 pixels, pixel values not normalised, crop 0.888"
    return _card(f"mobilevitv2_{width}.cvnets_in1k", "mobilevitv2", top1, note, read=read)


def _efficientformer(size: str, top1: float, note: str = "") -> ModelCard:
    family = size.partition("_")[0]
    return _card(f"{size}.snap_dist_in1k", family, top1, note, read="crop 0.95")


# The references are timm's own measurements of these tags under the transform that is used here. Papers often print
# another number, mostly another crop's; the note says which.
MODELS: Mapping[str, ModelCard] = {
    card.name: card
    for card in (
        _card("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "vit", 75.454, "papers print 75.47"),
        _card("vit_small_patch16_224.augreg_in21k_ft_in1k", "vit", 81.384),
        _card("vit_base_patch16_224.augreg_in21k_ft_in1k", "vit", 84.532),
        _card("vit_large_patch16_224.augreg_in21k_ft_in1k", "vit", 85.834, "FQ-ViT's table prints 85.81"),
        _card("vit_small_patch32_224.augreg_in21k_ft_in1k", "vit", 75.994),
        _card("vit_base_patch32_224.augreg_in21k_ft_in1k", "vit", 80.716),
        _at_384("vit_base_patch16_384.augreg_in21k_ft_in1k", "vit", 85.996),
        _card("deit_tiny_patch16_224.fb_in1k", "vit", 72.172, "papers print 72.21, which is crop 0.875"),
        _card("deit_small_patch16_224.fb_in1k", "vit", 79.844, "papers print 79.85, which is crop 0.875"),
        _card("deit_base_patch16_224.fb_in1k", "vit", 81.992, "papers print 81.80, or 81.85, which is crop 0.875"),
        _at_384("deit_base_patch16_384.fb_in1k", "vit", 83.106),
        _card("deit_tiny_distilled_patch16_224.fb_in1k", "vit", 74.500, DISTILLED),
        _card("deit_small_distilled_patch16_224.fb_in1k", "vit", 81.218, DISTILLED),
        _card("deit_base_distilled_patch16_224.fb_in1k", "vit", 83.386, DISTILLED),
        _card("swin_tiny_patch4_window7_224.ms_in1k", "swin", 81.376, "papers print 81.35 to 81.39"),
        _card("swin_small_patch4_window7_224.ms_in1k", "swin", 83.208, "papers print 83.23"),
        _card("swin_base_patch4_window7_224.ms_in22k_ft_in1k", "swin", 85.272),
        _card("swin_base_patch4_window7_224.ms_in1k", "swin", 83.606, "ImageNet-1k alone, as in FQ-ViT's table"),
        _at_384("swin_base_patch4_window12_384.ms_in22k_ft_in1k", "swin", 86.438),
        _mobilevit("mobilevit_xxs", 68.932, "Q-HyViT's table prints 69.0"),
        _mobilevit("mobilevit_xs", 74.636),
        _mobilevit("mobilevit_s", 78.312, "Q-HyViT's table prints 78.4"),
        _mobilevitv2("050", 70.138),
        _mobilevitv2("075", 75.608),
        _mobilevitv2("100", 78.076, "Q-HyViT's table prints 78.1"),
        _mobilevitv2("125", 79.680),
        _mobilevitv2("150", 80.370),
        _mobilevitv2("175", 80.860),
        _mobilevitv2("200", 81.134),
        _efficientformer("efficientformer_l1", 80.498, "Q-HyViT's table prints 80.2"),
        _efficientformer("efficientformer_l3", 82.550),
        _efficientformer("efficientformer_l7", 83.382),
        _efficientformer("efficientformerv2_s0", 76.118, "Q-HyViT's table prints 76.2"),
        _efficientformer("efficientformerv2_s1", 79.688),
        _efficientformer("efficientformerv2_s2", 82.166),
        _efficientformer("efficientformerv2_l", 83.632, "Q-HyViT's table prints 83.5"),
    )
}
