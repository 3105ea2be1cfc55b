"""The full form of a model whose LayerNorms shall take a fold: shifts are added where windows are padded."""

from __future__ import annotations

from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.full_swin import FullWindowAttention
from vitptq.methods.core.model.operands import shifted
from vitptq.methods.core.model.prepare import PreparedModel, prepare_in_full


class ShiftedWindowAttention(FullWindowAttention):
    """Window attention in full form that adds the shift which its first layer keeps, behind the padding."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within windows, shape (windows * B, N, C); `mask` is (windows, N, N) with 0 and -100."""
        return super().forward(shifted(x, self.qkv), mask)


def prepare_in_full_to_fold(model: nn.Module, bits: BitSpec) -> PreparedModel:
    """Return what `prepare_in_full` does, with the float function kept by `fold_into_layer_norm`."""
    net, full = prepare_in_full(model, bits)
    for part in full.modules():
        if type(part) is FullWindowAttention:
            part.__class__ = ShiftedWindowAttention
    return net
