"""FQ-ViT in full: everything between layers on a grid, near the float model at 8 bits, audited; its two forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.full_model import Point
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.quantizers.integer import IntegerLayerNorm, IntegerSoftmax
from vitptq.methods.fq_vit import FQViT

FAMILIES = ("ViT", "Swin")


def quantised(name: str, bits: BitSpec, **options: Any) -> Any:
    return FQViT(**options).quantize(two_block_models()[name], RandomImages(), bits)


@pytest.mark.parametrize("options", [{}, {"form": "released"}, {"integer_norm": False, "integer_softmax": False}])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_eight_bits_stay_close_to_the_float_model(name: str, options: dict[str, Any]) -> None:
    batch = next(RandomImages().batches())
    expected, actual = two_block_models()[name](batch), quantised(name, BitSpec(8, 8), **options)(batch)
    # an untrained ViT loses that much: its class token near zero shares a scale with the patches
    assert (actual - expected).norm() < 0.25 * expected.norm()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_every_tensor_that_is_stored_lies_on_the_grid_of_a_quantizer(name: str) -> None:
    model = quantised(name, BitSpec(4, 4))
    stored: dict[str, tuple[Quantizer, Tensor]] = {}

    def note(slot: Point, args: tuple[Tensor], output: Tensor) -> None:
        assert slot.quantizer is not None, slot.name
        stored[slot.name] = slot.quantizer, output

    points = [slot for slot in model.modules() if isinstance(slot, Point)]
    for point in points:
        point.register_forward_hook(note)
    model(next(RandomImages().batches()))
    assert len(stored) == len(points) > 10
    for slot, (quantizer, output) in stored.items():
        grid, values = quantizer.grid(), quantizer.groups(output)
        nearest = (values[:, :, None] - grid[:, None]).abs().amin(-1)
        assert (nearest <= 1e-5 * grid.abs().amax()).all(), slot


@pytest.mark.parametrize("bits", ["W8A8", "W4A4", "W3A3"])
@pytest.mark.parametrize("name", FAMILIES)
def test_audit_finds_no_violation_in_the_form_of_the_paper(name: str, bits: str) -> None:
    spec, images = BitSpec.parse(bits), RandomImages()
    audited = audit(quantised(name, spec), spec, next(images.batches())[:1], images.forward)
    assert not audited.violations
    assert audited.quantised_macs == audited.macs


def test_audit_reports_the_seventeenth_value_of_the_released_softmax() -> None:
    spec, images = BitSpec(8, 8), RandomImages()
    model = quantised("ViT", spec, form="released")
    violations = audit(model, spec, next(images.batches())[:1], images.forward).violations
    assert violations and all("17 values, 4 bits allow 16" in text for text in violations)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_norm_and_every_softmax_is_replaced_unless_told_otherwise(name: str) -> None:
    original = two_block_models()[name]
    norms = sum(isinstance(module, nn.LayerNorm) for module in original.modules())
    attentions = sum(hasattr(module, "qkv") for module in original.modules())
    for options, expected in (({}, (norms, attentions)), ({"integer_norm": False}, (0, attentions))):
        modules = list(quantised(name, BitSpec(8, 8), **options).modules())
        found = [sum(isinstance(module, kind) for module in modules) for kind in (IntegerLayerNorm, IntegerSoftmax)]
        assert tuple(found) == expected
        assert sum(isinstance(module, nn.LayerNorm) for module in modules) == norms - expected[0]


def test_queries_keys_and_values_share_the_grid_of_their_joint_tensor() -> None:
    model = quantised("ViT", BitSpec(8, 8))
    for slot in (module for module in model.modules() if isinstance(module, Operand)):
        assert (slot.quantizer is None) == (slot.role in ("query", "key", "value", "softmax"))


def test_last_norm_gets_the_range_of_the_class_token_alone() -> None:
    model, images = two_block_models()["ViT"], RandomImages()
    seen: dict[str, Tensor] = {}
    model.norm.register_forward_hook(lambda module, args, output: seen.update(x=output))  # type: ignore[union-attr]
    with torch.no_grad():
        model(next(images.batches()))
    made = FQViT(integer_softmax=False).quantize(two_block_models()["ViT"], images, BitSpec(8, 8))
    scale: Any = made.get_submodule("head.input_operand.quantizer").scale
    token, everything = seen["x"][:, 0], seen["x"]
    assert torch.allclose(scale, (token.amax() - token.amin()) / 255, rtol=1e-4)
    assert everything.amax() - everything.amin() > 1.05 * (token.amax() - token.amin())


class TwoBatches(RandomImages):
    """The random images, after a batch of others."""

    def batches(self) -> Any:
        yield torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(9)) * 3
        yield from super().batches()


def test_ranges_hold_all_batches_and_factors_come_from_the_last() -> None:
    bits, model = BitSpec(8, 8), two_block_models()["ViT"]
    one = FQViT(integer_softmax=False).quantize(model, RandomImages(), bits)
    two = FQViT(integer_softmax=False).quantize(model, TwoBatches(), bits)
    stem = [made.get_submodule("patch_embed.proj.input_operand.quantizer").scale for made in (one, two)]
    assert stem[1] > 2 * stem[0]  # type: ignore[operator]
    norms = [made.get_submodule("blocks.0.norm1").base for made in (one, two)]
    assert norms[1] > norms[0]  # type: ignore[operator]


def test_softmax_on_integers_takes_part_in_the_last_calibration_batch() -> None:
    bits, model = BitSpec(8, 8), two_block_models()["ViT"]
    name = "blocks.0.attn.proj.input_operand.quantizer"
    scales = [
        FQViT(integer_softmax=integer).quantize(model, RandomImages(), bits).get_submodule(name).scale
        for integer in (True, False)
    ]
    assert not torch.equal(*scales)  # type: ignore[arg-type]


def test_float_activations_are_unsupported_in_one_sentence() -> None:
    with pytest.raises(Unsupported, match="W4A32 leaves activations in float: fq-vit quantises all of them"):
        quantised("ViT", BitSpec(4, 32))


@pytest.mark.parametrize(("form", "fidelity"), [("released", "parity"), ("paper", "paper")])
def test_parity_is_stated_for_the_released_form_alone(form: Any, fidelity: str) -> None:
    assert FQViT(form=form).fidelity_as_configured() == fidelity
    assert any("fully quantised" in note for note in FQViT(form=form).notes())
