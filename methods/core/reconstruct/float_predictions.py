"""What the float model predicts for the calibration images, computed once: the targets of losses behind a unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.openmmlab import has_proposals, image_outputs
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct.cached_tensors import CacheMemory
from vitptq.methods.core.reconstruct.float_tail import Forward
from vitptq.methods.core.reconstruct.losses import PerSample
from vitptq.methods.core.sensitivity.fisher import outputs

Predictions = Callable[[Tensor], tuple[Tensor, ...]]
"""Numbers of calibration images to what the float model predicts for them."""

SHARE = 4
"""One part in so many of a method's memory is for predictions, the rest for the units' inputs and targets."""


@torch.no_grad()
def float_predictions(twin: PreparedModel, calibration: Calibration, forward: Forward, memory: int) -> Predictions:
    """Run the float model over the calibration images and return what looks its predictions up.

    `memory` is in bytes; what is beyond goes to files.
    """
    room = CacheMemory(memory, calibration.device)
    batches = [
        [room.empty(x.shape, x.dtype).copy_(x) for x in outputs(forward(twin.model, batch))]
        for batch in calibration.batches()
    ]
    kept = [PerSample(parts, join=False) for parts in zip(*batches, strict=True)]
    return lambda indices: tuple(samples(indices).to(calibration.device) for samples in kept)


def predictions_of_images(calibration: Calibration, net: PreparedModel) -> Forward:
    """Return what computes the predictions of whole images: of two-stage detectors without the outputs per proposal."""
    return image_outputs if has_proposals(net.model) else calibration.forward


def features_before_head(net: PreparedModel) -> Forward:
    """Return what computes the features that the head reads: the pooled ones, (B, C), of timm's classifiers.

    Of detectors and segmenters the maps that the heads read.
    """
    return _pooled if hasattr(net.model, "forward_head") else net.family.features


def _pooled(model: nn.Module, images: Tensor) -> Tensor:
    timm_model: Any = model
    features: Tensor = timm_model.forward_head(timm_model.forward_features(images), pre_logits=True)
    return features
