"""A full form keeps the float function when a shift is folded where windows are padded."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.full_with_shifts import ShiftedWindowAttention, prepare_in_full_to_fold
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm


@pytest.mark.parametrize("name", ["ViT", "Swin"])
@torch.no_grad()
def test_a_folded_shift_leaves_the_float_function(name: str) -> None:
    model = two_block_models()[name]
    net = prepare_in_full_to_fold(model, BitSpec(4, 4))
    (batch,) = RandomImages().batches()
    for norm, readers in net.norm_readers():
        shift = torch.linspace(-1, 1, len(norm.weight))
        fold_into_layer_norm(norm, readers, scale=2 + shift, shift=shift)
    torch.testing.assert_close(net.model(batch), model(batch), rtol=1e-5, atol=1e-5)


def test_window_attention_alone_has_another_form() -> None:
    nets = [prepare_in_full_to_fold(two_block_models()[name], BitSpec(4, 4)).model for name in ("ViT", "Swin")]
    counts = [sum(isinstance(module, ShiftedWindowAttention) for module in net.modules()) for net in nets]
    assert counts[0] == 0 and counts[1] > 0
