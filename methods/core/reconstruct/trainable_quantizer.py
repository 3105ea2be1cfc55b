"""The quantizer of an operand while its unit is trained; the one that it stands for takes its slot back afterwards."""

from __future__ import annotations

from torch import Tensor

from vitptq.bench.contracts.quantizer import Quantizer


class TrainableQuantizer(Quantizer):
    """Base of what stands in a slot during training only; a slot must never keep one."""

    inner: Quantizer

    def __init__(self, inner: Quantizer) -> None:
        super().__init__(inner.bits)
        # not registered: the training form must not show up in the unit's state
        self.__dict__["inner"] = inner

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` as it is while training; never kept between calls."""
        return self.quantise(x)

    @property
    def granularity(self) -> str:
        """Name what shares one grid."""
        return self.inner.granularity

    def grid(self) -> Tensor:
        """Return the grid that values will be on after training."""
        return self.inner.grid()

    def groups(self, x: Tensor) -> Tensor:
        """Arrange `x` as the grid is."""
        return self.inner.groups(x)
