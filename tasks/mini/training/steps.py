"""Steps of a training: seeds, learning rate, parameter groups, the update."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_NOT_DECAYED = ("pos_embed", "bias_table", "attention_biases")


def stream_seed(seed: int, unit: int, stream: int) -> int:
    """Return a seed of its own for one unit of a training and one purpose."""
    return int(np.random.SeedSequence([seed, unit, stream]).generate_state(1)[0])


def learning_rate(peak: float, done: float, length: int, *, warmup: float, first: float) -> float:
    """Return the rate after `done` of `length` units: a linear warm-up that begins `first` units on, then a cosine."""
    if done < warmup:
        return peak * (done + first) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (length - warmup)))


def parameter_groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return the optimiser's groups: norms, biases and position tables are not decayed."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        table = any(part in name for part in _NOT_DECAYED)
        (decayed if parameter.ndim > 1 and not table else plain).append(parameter)
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def update(model: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor, *, rate: float, clip: float) -> None:
    """Take one step along the gradient of the loss, whose norm is clipped."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
