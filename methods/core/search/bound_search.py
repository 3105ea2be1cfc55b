"""Grids of attention factors by their upper and lower bounds, as APHQ-ViT's released code searches them.

arXiv 2504.02508; `tests/parity/test_aphq_vit.py` compares the chosen grids with the official ones.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.quantizers.uniform import SCALE_FLOOR, Uniform
from vitptq.methods.core.ranges.estimation import percentile
from vitptq.methods.core.search.grid_errors import heads_first, side_error
from vitptq.methods.core.search.recording import Inputs

INNER, OUTER = 0.99, 0.99999
Varied = Literal["both", "upper", "lower"]


class BoundSearch:
    """The search for one side of a product: bounds per head, between the quantiles 0.99 and 0.99999 at either end."""

    def __init__(self, product: MatMul, inputs: Inputs, *, left: bool, count: int) -> None:
        """Prepare `count` candidates of each bound; the slot starts on the last pair.

        They are the first `count` of `count` + 1 evenly spread ones: the released code never tries the last.
        """
        self.error = side_error(product, inputs, left=left)
        self.slot = product.left_operand if left else product.right_operand
        heads = heads_first(inputs.first if left else inputs.second)
        (inner_low, inner_high), (outer_low, outer_high) = percentile(heads, INNER), percentile(heads, OUTER)
        way = torch.linspace(0, 1, count + 1, device=heads.device, dtype=heads.dtype)[:-1]
        self.uppers = torch.lerp(inner_high[:, None], outer_high[:, None], way)  # (H, K), rising
        self.lowers = torch.lerp(outer_low[:, None], inner_low[:, None], way)  # rising too, so pairs slide
        self._take(self.lowers[:, -1], self.uppers[:, -1])

    @torch.no_grad()
    def choose(self, varied: Varied) -> Tensor:
        """Set the bounds to those of least output error and return it, (heads,); the bounds so far are candidates."""
        uppers = self.uppers if varied != "lower" else self.high[:, None].expand_as(self.uppers)
        lowers = self.lowers if varied != "upper" else self.low[:, None].expand_as(self.lowers)
        uppers = torch.cat([uppers, self.high[:, None]], dim=1)
        lowers = torch.cat([lowers, self.low[:, None]], dim=1)
        errors = self.error(*self._grids(lowers, uppers))
        place = errors.argmin(dim=1, keepdim=True)
        self._take(lowers.gather(1, place)[:, 0], uppers.gather(1, place)[:, 0])
        return errors.gather(1, place)[:, 0]

    def _take(self, low: Tensor, high: Tensor) -> None:
        """Set the bounds."""
        self.low, self.high = low, high
        self.slot.quantizer = Uniform(self.slot.bits, *self._grids(low, high), axis=1, granularity="head")

    def _grids(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return s = (up - lo) / L and z = -round(lo / s)."""
        scale = ((high - low) / (2**self.slot.bits - 1)).clamp_min(SCALE_FLOOR)
        return scale, -(low / scale).round()


def search_bounds(product: MatMul, inputs: Inputs, count: int, rounds: int) -> None:
    """Give both sides of a product their grids: both bounds together, then by turns one bound of one side."""
    searches = [BoundSearch(product, inputs, left=left, count=count) for left in (True, False)]
    for search in searches:
        search.choose("both")
    for _ in range(rounds):
        for search in searches:
            search.choose("lower")
            search.choose("upper")
