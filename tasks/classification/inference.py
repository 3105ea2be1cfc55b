"""Run a classifier: predictions for the evaluation, logits for methods and audit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitptq.bench.contracts.task import Progress
from vitptq.bench.errors import BadInput, VitptqError


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the logits (images, classes)."""
    found: Tensor = model(batch)
    return found


def predict(
    model: nn.Module, batches: Iterable[Tensor], *, total: int, classes: int, progress: Progress
) -> NDArray[np.int16]:
    """Return the predicted class of every image as int16; a logit that is not finite anywhere is an error.

    The largest of NaNs is whatever the machine finds first, so a diverged model has no predictions worth a score: its
    cell fails, and the reason says how many images are affected.
    """
    model.eval()
    found: list[Tensor] = []
    broken: list[Tensor] = []
    done = 0
    for batch in batches:
        with torch.no_grad():
            logits = model(batch)
        _check_logits(logits, len(batch), classes)
        broken.append((~logits.isfinite()).any(dim=1).sum())
        found.append(logits.argmax(dim=1).to(torch.int16))
        done += len(batch)
        progress(done, total)
    if affected := int(torch.stack(broken).sum()):
        raise VitptqError(
            f"the model returned logits that are not finite (NaN or infinite) for {affected} of {done} images"
        )
    predictions: NDArray[np.int16] = torch.cat(found).cpu().numpy()
    return predictions


def _check_logits(logits: object, images: int, classes: int) -> None:
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (images, classes):
        raise BadInput(f"the model returned {shape} for {images} images; expected logits of shape {(images, classes)}")
