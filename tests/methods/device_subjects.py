"""A small model of every family with its images, and what a method makes of it on a device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.efficientformer import EfficientFormer
from torch import Tensor, nn

from tests.methods.core.model import openmmlab_models
from tests.methods.core.model.hybrid_models import randomised
from tests.methods.core.search.hybrids import tiny_efficientformerv2, tiny_mobilevit
from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, DataFree, InputSpec, Method
from vitptq.bench.run.adapter_check import two_block_models
from vitptq.bench.run.cell_run import seed_everything
from vitptq.tasks.openmmlab.operators import ensure_ops

BITS = BitSpec(4, 4)
OWN_BITS = {"low-rank": BitSpec.parse("W8A8+lowrank40"), "float-branch": BitSpec.parse("W4A4+branch")}
"""Of categories that have specs of their own."""
CPU = torch.device("cpu")


class Images(Calibration):
    """One batch of four random images, the same on every device."""

    def __init__(self, side: int, device: torch.device) -> None:
        self.input = InputSpec((3, side, side), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self.device = device

    def batches(self) -> Iterator[Tensor]:
        """Yield the batch."""
        yield torch.randn(4, *self.input.shape, generator=torch.Generator().manual_seed(7)).to(self.device)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits."""
        logits: Tensor = model(batch)
        return logits


@dataclass(frozen=True)
class Subject:
    """A float model on the CPU, and its images on a device."""

    build: Callable[[], nn.Module]
    images: Callable[[torch.device], Calibration]

    def quantised(self, name: str, device: torch.device, seed: int = 0) -> nn.Module:
        """Return what the method makes of the model on the device, with the parameters of its contract test."""
        if isinstance(self.images(CPU), openmmlab_models.Images):
            ensure_ops(device)
        method, images = tried(name), self.images(device)
        images.seed = seed
        given: Any = DataFree(images.input, device, seed) if method.category == "data-free" else images
        seed_everything(seed)
        bits = OWN_BITS.get(method.category, BITS)
        return method.quantize(copy.deepcopy(self.build()).to(device), given, bits).eval()

    def outputs(self, model: nn.Module, device: torch.device) -> Tensor | tuple[Tensor, ...]:
        """Return what a model on the device puts out for the images."""
        images = self.images(device)
        with torch.no_grad():
            return images.forward(model, next(images.batches()))


def tried(name: str) -> Method:
    """Return a method with the parameters of its contract test."""
    cls = registry.method(name)
    return cls.configured(cls.trial)


def methods() -> list[str]:
    """Return the methods that quantise."""
    return sorted(name for name, cls in registry.methods().items() if cls.category != "float")


def tiny_mobilevitv2() -> nn.Module:
    """Return a MobileViTv2 with one bridge block."""
    hybrid = ByoBlockCfg(
        type="mobilevit2", d=1, c=16, s=1, br=0.5, gs=1, block_kwargs={"transformer_depth": 1, "patch_size": 2}
    )
    plain = ByoBlockCfg(
        type="bottle", d=1, c=16, s=2, gs=1, br=2.0, block_kwargs={"bottle_in": True, "linear_out": True}
    )
    stem = {"stem_chs": 8, "stem_type": "3x3", "stem_pool": "", "downsample": "", "act_layer": "silu"}
    return randomised(
        ByobNet(ByoModelCfg(blocks=(plain, (plain, hybrid)), num_features=16, **stem), num_classes=10, img_size=32)
    )


def tiny_efficientformer() -> nn.Module:
    """Return an EfficientFormer with one attention block; its attention knows only 7 x 7 positions."""
    return randomised(EfficientFormer(depths=(1, 1, 1, 2), embed_dims=(8, 8, 16, 16), num_vit=1, num_classes=10))


def _scenes(device: torch.device) -> Calibration:
    return openmmlab_models.Images((32, 32), device=device)


SUBJECTS = {
    "ViT": Subject(lambda: two_block_models()["ViT"], lambda device: Images(32, device)),
    "Swin": Subject(lambda: two_block_models()["Swin"], lambda device: Images(32, device)),
    "MobileViT": Subject(tiny_mobilevit, lambda device: Images(32, device)),
    "MobileViTv2": Subject(tiny_mobilevitv2, lambda device: Images(32, device)),
    "EfficientFormer": Subject(tiny_efficientformer, lambda device: Images(224, device)),
    "EfficientFormerV2": Subject(tiny_efficientformerv2, lambda device: Images(64, device)),
}
if find_spec("mmdet") and find_spec("mmseg"):
    SUBJECTS |= {
        "Mask R-CNN Swin": Subject(openmmlab_models.mask_rcnn, _scenes),
        "UPerNet Swin": Subject(openmmlab_models.upernet, _scenes),
        "UPerNet DeiT": Subject(openmmlab_models.deit_upernet, _scenes),
    }
