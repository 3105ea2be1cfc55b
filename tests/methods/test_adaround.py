"""AdaRound: layer by layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.adaround import AdaRound

BITS = BitSpec(3, 3)


def quantised(method: Any) -> tuple[nn.Module, dict[str, list[Any]]]:
    with reporting.listening() as heard:
        model = method.quantize(two_block_models()["ViT"], RandomImages(), BITS)
    return model, {name: list(table.rows) for name, table in heard.tables.items()}


def test_adaround_trains_layer_by_layer() -> None:
    _, tables = quantised(AdaRound(iterations=1))
    names = [row["unit"] for row in tables["reconstruction"]]
    assert names[:3] == ["patch_embed.proj", "blocks.0.attn.qkv", "blocks.0.attn.proj"]
    assert names[-1] == "head"
