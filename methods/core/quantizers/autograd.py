"""Call an autograd function with the type of what it returns: torch leaves `apply` without annotations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """Return what `function` makes of its arguments, as a part of the graph where one of them has a gradient.

    Without a gradient its forward pass is called as it is, which compilers trace as any other function.
    """
    if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in arguments):
        result: Tensor = function.apply(*arguments)
    else:
        result = function.forward(_NoContext(), *arguments)
    return result


class _NoContext:
    """Takes the place of a function's context where nothing will be differentiated."""

    needs_input_grad = (False,) * 16

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep nothing."""
