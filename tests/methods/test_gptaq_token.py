"""GPTAQ with a range per token."""

from __future__ import annotations

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.quantizers.dynamic_token import DynamicToken
from vitptq.methods.gptaq_token import GPTAQToken


def test_inputs_of_block_linears_alone_have_a_range_per_token() -> None:
    method = GPTAQToken(scope="block linears")
    quantised = method.quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
    names = [name for name, module in quantised.named_modules() if isinstance(module, DynamicToken)]
    assert names == [
        f"blocks.{i}.{layer}.input_operand.quantizer"
        for i in range(2)
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    ]
