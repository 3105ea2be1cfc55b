"""Run a segmenter of mmseg: predictions for the evaluation, differentiable outputs for methods and audit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.errors import BadInput
from vitptq.tasks.openmmlab.batches import prepared
from vitptq.tasks.openmmlab.images import Item


def outputs(model: nn.Module, batch: Any) -> tuple[Tensor, ...]:
    """Return the backbone's feature maps and, last, the decode head's logits (B, classes, H / s, W / s).

    `batch` is (B, 3, H, W), `s` the stride of the finest feature map; `model` is one of mmseg's `EncoderDecoder`.
    """
    network: Any = model
    features = tuple(network.backbone(batch))
    return (*features, network.decode_head(network.neck(features) if network.with_neck else features))


def predict(model: nn.Module, prepare: nn.Module, items: list[Item]) -> list[Any]:
    """Return mmseg's predictions for items of one size: logits and labels at the size of the label maps."""
    inputs, samples = prepared(prepare, items)
    with torch.no_grad():
        found: list[Any] = model(inputs, samples, mode="predict")
    return found


def check_prediction(prediction: Any, labels: Tensor, classes: int) -> None:
    """Raise BadInput where the logits have another shape than the label map and its classes."""
    shape = tuple(prediction.seg_logits.data.shape)
    if shape != (classes, *labels.shape[-2:]):
        raise BadInput(
            f"the model returned logits of shape {shape} for a label map of {tuple(labels.shape[-2:])} and {classes} "
            "classes"
        )


def is_finite(logits: Tensor) -> Tensor:
    """Return whether all values are finite, a boolean on the device."""
    # the extremes are NaN where any value is, and cost no copy of the logits
    return torch.stack(torch.aminmax(logits)).isfinite().all()
