"""Grids for attention probabilities, chosen by their squared error: SULQ's shift, and TanQ's angle and ceiling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.lookup_table import LookupTable
from vitptq.methods.core.quantizers.shift_uniform_log2 import Form, ShiftUniformLog2, covering, shifted_range
from vitptq.methods.core.quantizers.tanq import Reading, TanQ
from vitptq.methods.core.ranges.estimation import percentile, some_values

ETAS = (0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shifts that the released code tries."""
SHARES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)
"""theta as a share of its limit, pi in reading A, pi / 2 in reading C."""
PERCENTILES = (0.999, 0.9999, 0.99999, 1.0)


def least_error_sulq(x: Tensor, bits: int, etas: Sequence[float] = ETAS, form: Form = "paper") -> ShiftUniformLog2:
    """Return the quantizer of the shift with the least squared error on `x` (any shape, values in 0 to 1).

    Of a large tensor, evenly spread values and both extremes are looked at. With `form="code"` the errors that choose
    are those of 2^bits codes, as in the released code, and not those of the grid that is returned.
    """
    values = some_values(x.detach().reshape(1, -1)).reshape(-1)
    if form == "paper":
        return least_error_table(values, [covering(values, bits, eta) for eta in etas])
    best = least_error_table(values, [_released_choice(values, bits, eta) for eta in etas])
    return covering(values, bits, best.eta, form)


def _released_choice(x: Tensor, bits: int, eta: float) -> ShiftUniformLog2:
    """Return the grid by which the released code judges a shift."""
    low, high = shifted_range(x, eta)
    return ShiftUniformLog2(bits, eta, max((high - low) / (2**bits - 1), 1e-8), low, 2**bits).to(x.device)


def least_error_tanq(x: Tensor, bits: int, reading: Reading = "A") -> TanQ:
    """Return the quantizer whose theta and ceiling have the least squared error on `x` (any shape, values in 0 to 1).

    The ceiling is one of the percentiles of all values; the error is taken over evenly spread values and both extremes.
    """
    row = x.detach().reshape(1, -1)
    values = some_values(row).reshape(-1)
    ceilings = {max(percentile(row, fraction)[1].item(), 1e-8) for fraction in PERCENTILES}
    limit = math.pi if reading == "A" else math.pi / 2
    return least_error_table(
        values, [TanQ(bits, c, share * limit, reading).to(x.device) for c in sorted(ceilings) for share in SHARES]
    )


_LookupTable = TypeVar("_LookupTable", bound=LookupTable)


def least_error_table(x: Tensor, candidates: Sequence[_LookupTable]) -> _LookupTable:
    """Return the candidate with the least squared error on `x`; ties: the first."""
    errors = torch.stack([(candidate(x) - x).square().mean(dtype=torch.float64) for candidate in candidates])
    return candidates[int(errors.argmin())]
