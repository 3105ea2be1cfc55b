"""The published segmenters: mmseg's configurations, checkpoints by hash, and their float references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitptq.bench.contracts.task import ModelCard

TOLERANCE = 0.2
SOURCE = "https://github.com/open-mmlab/mmsegmentation/tree/main/configs/"
DOWNLOAD = "https://mmassets.onedl.ai/mmsegmentation/v0.5"


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint of OpenMMLab: its configuration, its address, and the float score its authors report."""

    family: str
    config: str
    weights: str
    """Address below `DOWNLOAD`; the name ends with the first 8 digits of the file's sha256."""
    miou: float

    @property
    def file(self) -> str:
        """Return the name of the checkpoint file."""
        return self.weights.rpartition("/")[2]

    @property
    def url(self) -> str:
        """Return the address of the checkpoint."""
        return f"{DOWNLOAD}/{self.weights}"

    @property
    def digest(self) -> str:
        """Return the digits of the file's sha256 that its name ends with."""
        return self.file.removesuffix(".pth").rpartition("-")[2]


def _swin(size: str, stamp: str, miou: float) -> Published:
    folder = f"upernet_swin_{size}_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K"
    config = f"swin/swin-{size}-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"
    return Published("swin", config, f"swin/{folder}/{folder}_{stamp}.pth", miou)


MODELS: Mapping[str, Published] = {
    "upernet_swin_tiny": _swin("tiny", "20210531_112542-e380ad3e", 44.41),
    "upernet_swin_small": _swin("small", "20210526_192015-ee2fff1c", 47.72),
    "upernet_swin_base": _swin("base", "20210526_192340-593b0e13", 47.99),
    "upernet_deit_small": Published(
        "vit",
        "vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512",
        "vit/upernet_deit-s16_512x512_160k_ade20k/upernet_deit-s16_512x512_160k_ade20k_20210621_160903-5110d916.pth",
        42.87,
    ),
}


def card(name: str, entry: Published) -> ModelCard:
    """Return the card of a published model."""
    return ModelCard(
        name=name,
        family=entry.family,
        checkpoint=entry.file,
        reference={"miou": entry.miou},
        tolerance=TOLERANCE,
        source=f"{SOURCE}{entry.config.partition('/')[0]}/metafile.yaml",
        note="single scale, 512 pixels on the shorter side",
    )
