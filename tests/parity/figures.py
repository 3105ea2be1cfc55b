"""What official code put out on small inputs (`data/`), and how close this project has to come.

The arrays are figures only. `data/manifest.json` says of each where it is from: repository, commit, function, settings,
what had to be adapted to run on a CPU, and how far two official runs agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).with_name("data")
ROUNDING = 1e-5
"""Of the largest official value: what another order of float32 sums may put between two results."""
TIES = 1e-3
"""Largest share of values that may be a step apart, because a quotient rounds to the other side of a tie."""


@cache
def official(method: str) -> Mapping[str, Tensor]:
    """Return the official arrays of one method by name."""
    with np.load(DATA / f"{method}.npz", allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@cache
def manifest() -> dict[str, Any]:
    """Return what is known of each array."""
    found: dict[str, Any] = json.loads((DATA / "manifest.json").read_text(encoding="utf-8"))
    return found


def assert_same(ours: Tensor | float, theirs: Tensor) -> None:
    """Assert that every bit is equal, once both are in float64."""
    one, two = _pair(ours, theirs)
    assert torch.equal(one, two), f"largest difference {(one - two).abs().max():.3g}"


def assert_close(ours: Tensor | float, theirs: Tensor, *, relative: float = ROUNDING, apart: float = 0.0) -> None:
    """Assert that all but a share `apart` of the values lie within `relative` of the largest official value."""
    one, two = _pair(ours, theirs)
    largest = two.abs().max().item()
    far = (one - two).abs() > relative * largest
    assert far.double().mean().item() <= apart, (
        f"{far.double().mean():.2%} apart, largest difference {(one - two).abs().max():.3g} of {largest:.3g}"
    )


def _pair(ours: Tensor | float, theirs: Tensor) -> tuple[Tensor, Tensor]:
    one = torch.as_tensor(ours).detach().double().reshape(-1)
    two = theirs.detach().double().reshape(-1)
    assert one.shape == two.shape, f"{tuple(one.shape)} values against {tuple(two.shape)}"
    return one, two


def dequantised(codes: Tensor, scale: Tensor, zero: Tensor | None, axis: int | None) -> Tensor:
    """Return (code - zero) * scale, with scale and zero point along `axis`."""
    shape = [1] * codes.ndim
    if axis is not None:
        shape[axis] = -1
    shift = torch.zeros(()) if zero is None else zero.reshape(shape if axis is not None else [])
    return (codes.float() - shift) * scale.reshape(shape if axis is not None else [])
