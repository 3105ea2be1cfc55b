"""mmseg's ViT: its joint attention weight as a linear layer, and attention that has no operand map."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families.openmmlab_vit import PreparedSelfAttention


def attention(*, batch_first: bool = True, **options: Any) -> Any:
    """Return as much of mmcv's MultiheadAttention as is read."""
    inner = nn.MultiheadAttention(24, 3, batch_first=batch_first, **options).eval()
    return SimpleNamespace(attn=inner, batch_first=batch_first)


def test_it_equals_torchs_attention_and_a_shortcut() -> None:
    original = attention()
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = original.attn(x, x, x)[0] + x
        torch.testing.assert_close(PreparedSelfAttention(original, FLOAT)(x), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kdim": 12}, "keys of another width"),
        ({"add_zero_attn": True}, "added keys"),
        ({"batch_first": False}, "tokens on the first axis"),
    ],
)
def test_other_attention_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        PreparedSelfAttention(attention(**options), BitSpec(4, 4))
