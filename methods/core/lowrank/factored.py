"""A linear layer whose weight is a product of two factors."""

from __future__ import annotations

from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Linear


class Factored(nn.Module):
    """y = up (down x) + b: two linear layers with slots in place of one, of rank `rank`."""

    def __init__(self, layer: Linear, left: Tensor, right: Tensor, bits: BitSpec) -> None:
        """Take the factors left (out, rank) and right (rank, in), and the bias of `layer`."""
        super().__init__()
        out, rank = left.shape
        down, up = nn.Linear(right.shape[1], rank, bias=False), nn.Linear(rank, out, bias=False)
        down.weight, up.weight = (_parameter(factor, layer.weight) for factor in (right, left))
        up.bias = layer.bias
        self.down, self.up = Linear(down, bits, layer.input_operand.role), Linear(up, bits)

    @property
    def rank(self) -> int:
        """Return the rank."""
        return self.down.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Apply both, shape (..., in) to (..., out)."""
        y: Tensor = self.up(self.down(x))
        return y


def _parameter(factor: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(factor.to(like).contiguous(), requires_grad=False)


def breaks_even(outputs: int, inputs: int) -> int:
    """Return the highest rank whose factors have fewer parameters than the weight.

    >>> breaks_even(2304, 768), breaks_even(768, 768), breaks_even(3072, 768)
    (575, 383, 614)
    """
    return (outputs * inputs - 1) // (outputs + inputs)


def as_linear(net: nn.Module, name: str) -> Linear:
    """Return the linear layer of that name."""
    layer = net.get_submodule(name)
    assert isinstance(layer, Linear), name
    return layer
