"""Static grids per token in the place of grids per tensor or head, as FIMA-Q's released settings have them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.token_uniform import TokenUniform
from vitptq.methods.core.quantizers.uniform import Uniform


def spread_over_tokens(net: PreparedModel, calibration: Calibration) -> None:
    """Give each token a scale of its own, which starts at that of its tensor or head, wherever an input has tokens.

    Factors of attention products have one per head and token, values one per head and channel. Raises Unsupported where
    images differ in size.
    """
    slots = {name: slot for name, slot in net.activations.items() if isinstance(slot.quantizer, Uniform)}
    seen: dict[Operand, Tensor] = {}

    def watch(slot: Operand, x: Tensor) -> None:
        known = seen.setdefault(slot, x[:1])
        axes = _token_axes(slot, x)
        if [x.shape[axis] for axis in axes] != [known.shape[axis] for axis in axes]:
            raise Unsupported(
                f'scales per token need images of one size, and {slot.name} met several; take scales="tensor"'
            )

    with watching(slots, watch):
        net.run(calibration)
    for slot, x in seen.items():
        axes = _token_axes(slot, x)
        if axes:
            slot.quantizer = _spread(cast(Uniform, slot.quantizer), x, axes)


def _token_axes(slot: Operand, x: Tensor) -> tuple[int, ...]:
    """Return the axes that share no grid; none of what a convolution or, of pooled features, a head reads."""
    if slot.head_axis is not None:  # (B, heads, tokens, channels)
        return (1, 3) if slot.role == "value" else (1, 2)
    return tuple(range(1, x.ndim - 1)) if slot.channel_axis == -1 else ()


@torch.no_grad()
def _spread(grid: Uniform, x: Tensor, axes: tuple[int, ...]) -> TokenUniform:
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    scale, zero = (grid._like(x, values).expand(shape).contiguous() for values in (grid.scale, grid.zero_point))
    return TokenUniform(grid.bits, scale, zero, axes=axes, sizes=tuple(x.shape[axis] for axis in axes))
