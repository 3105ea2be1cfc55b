"""Sums of errors over parts of the data, for as many candidates as a search goes on from.

Errors are never negative. So a candidate whose sum over some parts exceeds the whole sums of as many others as are
wanted is none of the best, and its other parts are not computed. Nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vitptq.methods.core.search.elimination import SLACK

PARTS = 8
"""Parts of the data that are worth while: less is computed of losers, and a step's tensors stay large enough."""

PartError = Callable[[Tensor, Tensor], Tensor]
"""(scales, zero points), each (groups, K), to the errors on one part, (groups, K)."""


def leading_sums(parts: Sequence[PartError], scale: Tensor, zero: Tensor, wanted: int | None) -> Tensor:
    """Return the sums (groups, K) of the `wanted` least candidates of each group; of others, these or infinity."""
    first, *others = parts
    total = first(scale, zero)
    count = scale.shape[1]
    if wanted is None or wanted >= count:
        for part in others:
            total = total + part(scale, zero)
        return total
    whole = torch.full_like(total, torch.inf)
    likely = total.topk(wanted, dim=1, largest=False).indices.unique()
    whole[:, likely] = total[:, likely]
    for part in others:
        whole[:, likely] += part(scale[:, likely], zero[:, likely])
    bound = whole.topk(wanted, dim=1, largest=False).values[:, -1:] * (1 + SLACK)
    left = torch.ones(count, dtype=torch.bool, device=scale.device).index_fill(0, likely, value=False).nonzero()[:, 0]
    for part in others:
        left = left[(total[:, left] <= bound).any(0)]
        if not len(left):
            return whole
        total[:, left] += part(scale[:, left], zero[:, left])
    whole[:, left] = total[:, left]
    return whole
