"""A uniform grid with a static scale per token, and per head where there are heads: for inputs of one size."""

from __future__ import annotations

from torch import Tensor

from vitptq.bench.errors import BadInput
from vitptq.methods.core.quantizers.uniform import Uniform


class TokenUniform(Uniform):
    """Uniform affine grids along several axes of the input, those of `axes`, which have the sizes `sizes`.

    `scale`, `zero_point`: one number per place on these axes, the last axis fastest.
    """

    def __init__(
        self, bits: int, scale: Tensor, zero_point: Tensor, *, axes: tuple[int, ...], sizes: tuple[int, ...]
    ) -> None:
        super().__init__(bits, scale, zero_point, granularity="token")
        self.axes, self.sizes = axes, sizes

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as (groups, values)."""
        self._check(x)
        return x.movedim(self.axes, tuple(range(len(self.axes)))).flatten(0, len(self.axes) - 1).flatten(1)

    def _like(self, x: Tensor, values: Tensor) -> Tensor:
        self._check(x)
        return values.reshape([x.shape[axis] if axis in self.axes else 1 for axis in range(x.ndim)])

    def _check(self, x: Tensor) -> None:
        found = tuple(x.shape[axis] for axis in self.axes)
        if found != self.sizes:
            raise BadInput(
                f"a tensor with {found} on the axes {self.axes} met scales per token for {self.sizes}: images must "
                "have the size they had while the model was calibrated"
            )
