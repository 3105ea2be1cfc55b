"""The images of the official runs: what their end-to-end figures were calibrated with and evaluated on."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from tests.parity.figures import official
from vitptq.bench.run.adapter_check import RandomImages


class OfficialImages(RandomImages):
    """The 32 calibration images of the official runs, in one batch."""

    def batches(self) -> Iterator[Tensor]:
        yield normalised("calibration")


def normalised(name: str) -> Tensor:
    """Return "calibration" or "evaluation", 32 images as the models read them."""
    images = official("mini_vit")
    mean, std = (images[which].reshape(1, 3, 1, 1) for which in ("mean", "std"))
    return (images[name].float() / 255 - mean) / std
