"""A linear layer whose input is divided channel by channel while the model runs, and whose weight undoes it."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.model.operands import Linear


class DividedLinear(Linear):
    """W x as (W r) (x / r): where nothing in front of the layer can take the factors r in."""

    divisor: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer, shape (..., in) to (..., out)."""
        return super().forward(input / self.divisor)


@torch.no_grad()
def divide_input(layer: Linear, divisor: Tensor) -> None:
    """Make `layer` a `DividedLinear`, in place; the float function stays. `divisor`: (in,), none of it 0."""
    assert type(layer) is Linear, "divided already, or another kind of layer"
    layer.weight.copy_(layer.weight * divisor)
    layer.__class__ = DividedLinear
    layer.register_buffer("divisor", divisor.to(layer.weight))
