"""Call an autograd function with the type of what it returns: torch leaves `apply` without annotations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def applied(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """Return what `function` makes of its arguments, as a part of the graph."""
    result: Tensor = function.apply(*arguments)
    return result
