"""Grids by their upper and lower bounds.

APHQ-ViT's released code (arXiv 2504.02508) searches attention factors and the patch embedding so.
`tests/parity/test_aphq_vit.py` compares the chosen grids of attention factors with the official ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitptq.methods.core.model.operands import Conv2d, MatMul, Operand
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, Granularity, Uniform
from vitptq.methods.core.ranges.estimation import percentile, sorted_quantile
from vitptq.methods.core.search.fpcs import Error
from vitptq.methods.core.search.grid_errors import heads_first, side_error
from vitptq.methods.core.search.recording import Inputs

INNER, OUTER = 0.99, 0.99999
FILTER_OUTER = 0.9999
Varied = Literal["both", "upper", "lower"]


class BoundSearch:
    """The search for one slot's grids, one per group: candidates of either bound between two quantiles at its end."""

    def __init__(
        self, slot: Operand, error: Error, lowers: Tensor, uppers: Tensor, *, axis: int, granularity: Granularity
    ) -> None:
        """Take the candidates (groups, K) of the bounds, paired by their place; the slot starts on the last pair."""
        self.slot, self.error, self.axis, self.granularity = slot, error, axis, granularity
        self.lowers, self.uppers = lowers, uppers
        self._take(lowers[:, -1], uppers[:, -1])

    @staticmethod
    def of_side(product: MatMul, inputs: Inputs, *, left: bool, count: int) -> BoundSearch:
        """Return the search for one side of a product, per head: between the quantiles 0.99 and 0.99999 at either end.

        The `count` candidates are the first of `count` + 1 evenly spread ones: the released code never tries the last.
        """
        slot = product.left_operand if left else product.right_operand
        heads = heads_first(inputs.first if left else inputs.second)
        (inner_low, inner_high), (outer_low, outer_high) = percentile(heads, INNER), percentile(heads, OUTER)
        way = torch.linspace(0, 1, count + 1, device=heads.device, dtype=heads.dtype)[:-1]
        uppers = torch.lerp(inner_high[:, None], outer_high[:, None], way)  # (H, K), rising
        lowers = torch.lerp(outer_low[:, None], inner_low[:, None], way)  # rising too, so pairs slide
        error = side_error(product, inputs, left=left)
        return BoundSearch(slot, error, lowers, uppers, axis=1, granularity="head")

    @staticmethod
    def of_filters(layer: Conv2d, error: Error, count: int) -> BoundSearch:
        """Return the search for a convolution's filters: `count` quantiles from 0.99 to 0.9999, closer to the end.

        The released code has the extreme values as one candidate more, which it never tries.
        """
        slot = layer.weight_operand
        ordered = slot.by_channel(layer.weight.detach()).sort(dim=1).values
        ways = [INNER + (FILTER_OUTER - INNER) * (place / max(count - 1, 1)) ** 0.5 for place in range(count)]
        uppers = torch.stack([sorted_quantile(ordered, way) for way in ways], dim=1)
        lowers = torch.stack([sorted_quantile(ordered, 1 - way) for way in ways], dim=1)
        return BoundSearch(slot, error, lowers, uppers, axis=slot.channel_axis, granularity="channel")

    @torch.no_grad()
    def choose(self, varied: Varied) -> Tensor:
        """Set the bounds to those of least output error and return it, (groups,); the bounds so far are candidates."""
        uppers = self.uppers if varied != "lower" else self.high[:, None].expand_as(self.uppers)
        lowers = self.lowers if varied != "upper" else self.low[:, None].expand_as(self.lowers)
        uppers = torch.cat([uppers, self.high[:, None]], dim=1)
        lowers = torch.cat([lowers, self.low[:, None]], dim=1)
        errors = self.error(*self._grids(lowers, uppers), wanted=1)
        place = errors.argmin(dim=1, keepdim=True)
        self._take(lowers.gather(1, place)[:, 0], uppers.gather(1, place)[:, 0])
        return errors.gather(1, place)[:, 0]

    def _take(self, low: Tensor, high: Tensor) -> None:
        """Set the bounds."""
        self.low, self.high = low, high
        grids = self._grids(low, high)
        self.slot.quantizer = Uniform(self.slot.bits, *grids, axis=self.axis, granularity=self.granularity)

    def _grids(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return s = (up - lo) / L and z = -round(lo / s)."""
        scale = ((high - low) / (2**self.slot.bits - 1)).clamp_min(SCALE_FLOOR)
        return scale, -(low / scale).round()


def search_bounds(product: MatMul, inputs: Inputs, count: int, rounds: int) -> None:
    """Give both sides of a product their grids: both bounds together, then by turns one bound of one side."""
    searches = [BoundSearch.of_side(product, inputs, left=left, count=count) for left in (True, False)]
    for search in searches:
        search.choose("both")
    for _ in range(rounds):
        for search in searches:
            search.choose("lower")
            search.choose("upper")
