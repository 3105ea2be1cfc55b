"""Whether a method does on another device what it does on the CPU.

Devices add in another order, so a value next to a rounding threshold falls to another code, and a search or a training
goes on from there. The yardstick is therefore the error that quantisation makes itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CPU = torch.device("cpu")
CLOSE = 0.5
"""Largest distance between the outputs of two devices, as a share of the error that quantisation makes."""
ALIKE = 1.5
"""Largest ratio of the errors on two devices where the method draws numbers: a GPU draws other ones."""
SLACK = 1e-3
"""Share of the float outputs that may be added to both."""

Quantised = Callable[[torch.device, int], Tensor]
"""(device, seed) to what the quantised model puts out, on the CPU, in one row."""


def disagreement(expected: Tensor, quantised: Quantised, device: torch.device) -> str:
    """Say how the outputs on `device` differ from those on the CPU; empty where they agree.

    `expected` is what the float model puts out. Whether the method draws numbers shows in another seed.
    """
    here, there = quantised(CPU, 0), quantised(device, 0)
    error, found = (here - expected).norm(), (there - expected).norm()
    slack = SLACK * expected.norm()
    if bool((there - here).norm() <= CLOSE * error + slack):
        return ""
    if torch.equal(here, quantised(CPU, 1)):
        return f"its outputs are {(there - here).norm():.3g} apart where the error of quantisation is {error:.3g}"
    if bool(found <= ALIKE * error + slack) and bool(error <= ALIKE * found + slack):
        return ""
    return f"the error of quantisation is {found:.3g} there and {error:.3g} on the CPU (it draws other numbers there)"


def in_one_row(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Return outputs on the CPU, in one row; each of several counts as much as the others."""
    if isinstance(outputs, Tensor):
        return outputs.flatten().cpu()
    return torch.cat([(x / x.norm().clamp_min(1e-12)).flatten().cpu() for x in outputs])
