"""Grids spread over the tokens: where they go, and that nothing moves at first."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.quantizers.token_uniform import TokenUniform
from vitptq.methods.core.ranges.per_token import spread_over_tokens
from vitptq.methods.core.reconstruct.least_error_start import calibrated


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_quantised_function_stays_until_scales_are_trained(name: str) -> None:
    net, _ = calibrated(two_block_models()[name], RandomImages(), BitSpec(4, 4))
    images = next(RandomImages().batches())
    with torch.no_grad():
        before = net.model(images)
        spread_over_tokens(net, RandomImages())
        torch.testing.assert_close(net.switch(True)(images), before)


def test_values_have_a_grid_per_channel_and_image_and_head_keep_theirs() -> None:
    net, _ = calibrated(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
    spread_over_tokens(net, RandomImages())
    grids: Any = {name: slot.quantizer for name, slot in net.activations.items()}
    assert grids["blocks.0.attn.av.right_operand"].axes == (1, 3)
    assert grids["blocks.0.attn.qk.right_operand"].axes == (1, 2)
    assert grids["blocks.0.mlp.fc1.input_operand"].sizes == (17,)
    assert {name for name, grid in grids.items() if not isinstance(grid, TokenUniform)} == {
        "patch_embed.proj.input_operand",
        "head.input_operand",
    }
