"""The linear map of what a block reads onto what its quantised form lacks: least squares over all tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.watched_calls import watched_calls

RIDGE = 1e-6
"""Of the mean square of the inputs: channels that never vary would otherwise make the normal equations singular."""
Missing = tuple[Tensor, Tensor]
"""What a block reads (images, ..., channels), and what its quantised form lacks for that input, of the same shape."""


@dataclass(frozen=True)
class RegressionMoments:
    """Sums over tokens in float64, A being the inputs with a column of ones, Y what is to be explained."""

    gram: Tensor
    """A^T A, (in + 1, in + 1)."""
    cross: Tensor
    """A^T Y, (in + 1, out)."""
    square: Tensor
    """|Y|^2."""

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> RegressionMoments:
        """Return the sums for (..., in) and (..., out)."""
        rows = functional.pad(x.reshape(-1, x.shape[-1]), (0, 1), value=1.0).double()
        wanted = y.reshape(-1, y.shape[-1]).double()
        return cls(rows.T @ rows, rows.T @ wanted, wanted.square().sum())

    def __add__(self, other: RegressionMoments) -> RegressionMoments:
        return RegressionMoments(self.gram + other.gram, self.cross + other.cross, self.square + other.square)

    def solution(self) -> Tensor:
        """Return [W; c], (in + 1, out), of least |Y - A [W; c]|^2."""
        ridge = RIDGE * self.gram.diagonal().mean() * torch.eye(len(self.gram)).to(self.gram)
        solved: Tensor = torch.cholesky_solve(self.cross, torch.linalg.cholesky(self.gram + ridge))
        return solved

    def explained(self, solution: Tensor) -> float:
        """Return R^2: by which share |Y - A [W; c]|^2 is below the squares around the mean of Y; 0 without any."""
        count, sums = self.gram[-1, -1], self.cross[-1]  # A's last column is 1
        around_mean = self.square - sums.square().sum() / count
        left = self.square - 2 * (solution * self.cross).sum() + (solution * (self.gram @ solution)).sum()
        return float(1 - left / around_mean) if around_mean > 0 else 0.0


@torch.no_grad()
def missing_outputs(net: PreparedModel, twin: PreparedModel, calibration: Calibration, name: str) -> Iterator[Missing]:
    """Yield for each batch what a block reads in `net`, as it is switched, and f(x) - f^(x).

    f is the block of `twin`, the float model: both read the same x, so the error of earlier blocks is not in it. Images
    are on the first axis, channels on the last: a block of other maps, or of another output, yields nothing.
    """
    block, float_block = net.model.get_submodule(name), twin.model.get_submodule(name)
    for batch in calibration.batches():
        calls: list[tuple[Any, Any]] = []

        def take(_: nn.Module, args: Any, kwargs: Any, __: Any, into: list[tuple[Any, Any]] = calls) -> None:
            into.append((args, kwargs))

        with watched_calls({block: 1}, take, entering=True):
            calibration.forward(net.model, batch)
        for args, kwargs in calls:
            if not _has_tokens(block, args[0]):
                return
            wanted, given = float_block(*args, **kwargs), block(*args, **kwargs)
            if isinstance(given, Tensor) and given.shape == args[0].shape:
                yield args[0], wanted - given


def _has_tokens(block: nn.Module, x: Tensor) -> bool:
    """Tell whether the channels of what a block reads are on the last axis: of a map that only if it is normalised."""
    return x.ndim == 3 or isinstance(getattr(block, "norm1", None), nn.LayerNorm)


def regression_halves(pairs: Iterable[Missing]) -> tuple[RegressionMoments, RegressionMoments] | None:
    """Return the moments of the images with even and of those with odd numbers; None where there is no image."""
    sums: list[RegressionMoments | None] = [None, None]
    images = 0
    for x, lost in pairs:
        for half in range(2):
            rows = slice((half - images) % 2, None, 2)
            if len(x[rows]):
                new, known = RegressionMoments.of(x[rows], lost[rows]), sums[half]
                sums[half] = new if known is None else known + new
        images += len(x)
    if not images:
        return None
    one, other = sums
    if one is None or other is None:
        raise Unsupported(f"a regression on one half of the images needs two or more, and the block saw {images}")
    return one, other
