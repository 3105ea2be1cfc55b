"""The loop over the layers: order, scope, and what is quantised while it runs."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.layerwise.layer_problem import LayerProblem
from vitptq.methods.gptaq import GPTAQ
from vitptq.methods.gptq import GPTQ
from vitptq.methods.rtn import RoundToNearest


def output_error(method: GPTQ | RoundToNearest, name: str, bits: BitSpec) -> float:
    model = two_block_models()[name]
    images = next(RandomImages().batches())
    with torch.no_grad():
        found = method.quantize(model, RandomImages(), bits)(images)
        return float((found - model(images)).square().mean())


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_gptq_is_nearer_to_the_float_model_than_rounding_to_nearest(name: str) -> None:
    bits = BitSpec(3, 32)
    errors = [output_error(method, name, bits) for method in (GPTQ(), RoundToNearest(ranges="least-error"))]
    assert errors[0] < 0.6 * errors[1]


def test_scope_of_block_linears_leaves_the_rest_in_float() -> None:
    model = two_block_models()["ViT"]
    bits = BitSpec(4, 4)
    quantised = GPTQ(scope="block linears").quantize(model, RandomImages(), bits)
    found = audit(quantised, bits, torch.randn(1, 3, 32, 32), RandomImages().forward)
    quantised_modules = {side.module for side in found.operands if side.bits is not None}
    assert quantised_modules == {
        f"blocks.{i}.{name}" for i in range(2) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    }
    assert any("head" in violation for violation in found.violations)


def test_activations_are_quantised_while_weights_are_rounded_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[bool, list[bool]] = {False: [], True: []}
    plain = GPTQ.rounded

    def rounded(self: GPTQ, layer: LayerProblem) -> object:
        seen[self.activations_first].append(layer.layer.input_operand.on)
        return plain(self, layer)

    monkeypatch.setattr(GPTQ, "rounded", rounded)
    for first in (False, True):
        GPTQ(activations_first=first).quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
    assert not any(seen[False])
    assert all(seen[True])


def test_float_weights_are_refused() -> None:
    with pytest.raises(Unsupported, match="W32A4"):
        GPTAQ().quantize(two_block_models()["ViT"], RandomImages(), BitSpec(32, 4))


def test_later_layers_see_the_rounded_ones_before() -> None:
    model = two_block_models()["ViT"]
    whole = GPTQ().quantize(model, RandomImages(), BitSpec(2, 32))
    with torch.no_grad():
        model.get_submodule("blocks.0.attn.qkv").weight[:, 0] += 0.3  # type: ignore[operator,index]
        other = GPTQ().quantize(model, RandomImages(), BitSpec(2, 32))
    fc2 = "blocks.1.mlp.fc2.weight"
    assert not torch.equal(whole.state_dict()[fc2], other.state_dict()[fc2])


def test_rotated_model_is_rounded_with_the_same_function() -> None:
    images = next(RandomImages().batches())
    model = two_block_models()["ViT"]
    with torch.no_grad():
        found = GPTQ(rotation="full").quantize(model, RandomImages(), BitSpec(8, 32))
        assert (found(images) - model(images)).norm() < 0.02 * model(images).norm()
    assert not torch.equal(found.state_dict()["blocks.0.mlp.fc1.weight"], model.state_dict()["blocks.0.mlp.fc1.weight"])
