"""Randomised Hadamard matrices: orthogonal, all entries of one size, so that they spread what single channels hold.

A Hadamard matrix here is a core of Paley's first construction, doubled by Sylvester's. The core's order is 1, 2 or
p + 1 for a prime p that leaves 3 when divided by 4: 12, 20, 24, 44, 72, 80 ... so 96, 192, 384 and 768 have the core
of 12.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitptq.bench.errors import Unsupported

DOUBLE = torch.float64


def random_signs(order: int, generator: torch.Generator) -> Tensor:
    """Return `order` times 1 or -1, float64, on the CPU."""
    return torch.randint(0, 2, (order,), generator=generator).to(DOUBLE) * 2 - 1


def randomised_hadamard(signs: Tensor) -> Tensor:
    """Return diag(signs) H / sqrt(order), orthogonal, (order, order)."""
    return signs[:, None] * hadamard(len(signs)).to(signs.device) / math.sqrt(len(signs))


def hadamard(order: int) -> Tensor:
    """Return a Hadamard matrix: entries 1 and -1, rows orthogonal."""
    matrix = core_of(order)
    double = torch.tensor([[1, 1], [1, -1]], dtype=DOUBLE)
    while len(matrix) < order:
        matrix = torch.kron(matrix, double)
    return matrix


def times_hadamard(x: Tensor, core: Tensor) -> Tensor:
    """Return x H^T for the matrix H with this core, (..., order), by additions alone."""
    size = len(core)
    x = x.unflatten(-1, (size, -1))
    step = 1
    while step < x.shape[-1]:
        left, right = x.unflatten(-1, (-1, 2, step)).unbind(-2)
        x = torch.stack([left + right, left - right], dim=-2).flatten(-3)
        step *= 2
    return torch.stack([(x * row[:, None]).sum(-2) for row in core], dim=-2).flatten(-2)


def core_of(order: int) -> Tensor:
    """Return the core from which the Hadamard matrix of this order is doubled."""
    core = order
    while core % 2 == 0 and core > 2:
        core //= 2
    while core < order and not _is_core(core):
        core *= 2
    if not _is_core(core):
        raise Unsupported(f"no Hadamard matrix of order {order} is known here, so {order} channels cannot be rotated")
    return _paley(core)


def _is_core(order: int) -> bool:
    return order in (1, 2) or (order % 4 == 0 and all((order - 1) % d for d in range(2, math.isqrt(order) + 1)))


def _paley(order: int) -> Tensor:
    if order <= 2:
        return torch.tensor([[1, 1], [1, -1]], dtype=DOUBLE)[:order, :order]
    prime = order - 1
    residues = torch.full((prime,), -1, dtype=DOUBLE)
    residues[[i * i % prime for i in range(1, prime)]] = 1
    residues[0] = 0
    rows = torch.arange(prime)
    skew = torch.ones(order, order, dtype=DOUBLE)  # S with S S^T = prime I and S^T = -S
    skew[0, 0] = 0
    skew[1:, 0] = -1
    skew[1:, 1:] = residues[(rows[:, None] - rows) % prime]
    return skew + torch.eye(order, dtype=DOUBLE)
