"""A float side branch: the only products that a method may add to a model, at bit specs such as W4A4+branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SideBranch(nn.Module):
    """Compute x W^T + c on numbers in half precision, added up in float32.

    The audit counts it apart from the products of the float model; a subclass, which may compute anything, not.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Take the weight (out, in) and the bias (out,)."""
        super().__init__()
        self.weight, self.bias = (nn.Parameter(x.to(torch.float16), requires_grad=False) for x in (weight, bias))

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch's output, shape (..., in) to (..., out)."""
        half = x.to(torch.float16).to(x.dtype)
        return functional.linear(half, self.weight.to(x.dtype), self.bias.to(x.dtype))


def branch_names(model: nn.Module) -> frozenset[str]:
    """Return the names of a model's side branches."""
    return frozenset(name for name, module in model.named_modules() if type(module) is SideBranch)
