"""Hybrid families: folded and prepared on the real timm architectures, with random weights at their real input size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from timm.layers.activations import GELU
from torch import Tensor, nn

from tests.methods.core.model.hybrid_models import SIDES, randomised
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, InputSpec
from vitptq.bench.run.adapter_check import CPU
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.families import family_of
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.easyquant import EasyQuant
from vitptq.methods.fq_vit_operands import FQViTOperands
from vitptq.methods.minmax import MinMax
from vitptq.methods.omse import OMSE
from vitptq.methods.ptq4vit import PTQ4ViT
from vitptq.methods.repq_vit import RepQViT
from vitptq.tasks.mini.models.classifiers import mini_efficientformerv2, mini_mobilevit, mini_mobilevitv2

BITS = BitSpec(8, 8)


@pytest.fixture(scope="module", params=SIDES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return randomised(timm.create_model(name, pretrained=False))


class Images(Calibration):
    """Two random images of a given size, in one batch."""

    def __init__(self, side: int) -> None:
        self.input = InputSpec((3, side, side), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.device = CPU

    def batches(self) -> Iterator[Tensor]:
        yield torch.randn(2, *self.input.shape, generator=torch.Generator().manual_seed(2))

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        logits: Tensor = model(batch)
        return logits


def test_float_function_is_unchanged(name: str, model: nn.Module) -> None:
    images = next(Images(SIDES[name]).batches())
    with torch.no_grad():
        expected, actual = model(images), prepare(model, BITS).model(images)
    assert expected.std() > 1e-3
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()


def test_every_product_has_its_operands(name: str, model: nn.Module) -> None:
    net = prepare(model, BITS)
    layers = sum(type(m) in (nn.Linear, nn.Conv2d) for m in model.modules())
    attentions = {"mobilevit_xxs": 9, "mobilevitv2_050": 0, "efficientformer_l1": 1, "efficientformerv2_s0": 5}[name]
    assert len(net.weights) == layers
    assert len(net.operands) == 2 * layers + 4 * attentions
    roles = [operand.role for operand in net.operands.values()]
    assert roles.count("stem_input") == 1
    assert roles.count("softmax") == attentions


def test_layers_behind_a_gelu_are_those_that_read_one(name: str, model: nn.Module) -> None:
    net = prepare(model, BITS)
    outputs: list[Tensor] = []  # kept, so that no storage is used twice
    behind: set[str] = set()
    for module in net.model.modules():
        if isinstance(module, nn.GELU | GELU):
            module.register_forward_hook(lambda *args: outputs.append(args[-1]))

    def watch(operand: Operand, x: Tensor) -> None:
        if any(x.data_ptr() == y.data_ptr() for y in outputs):
            behind.add(operand.name)

    with watching(net.operands, watch):
        net.run(Images(SIDES[name]))
    assert {name for name, operand in net.operands.items() if operand.role == "gelu"} == behind
    assert len(behind) == {"efficientformer_l1": 15, "efficientformerv2_s0": 35}.get(name, 0)


@pytest.mark.slow
def test_audit_of_minmax_is_clean(name: str, model: nn.Module) -> None:
    images = Images(SIDES[name])
    quantised = MinMax().quantize(model, images, BITS)
    audited = audit(quantised, BITS, next(images.batches())[:1], images.forward)
    assert audited.violations == ()
    assert audited.quantised_macs == audited.macs > 0


def test_blocks_are_modules_in_execution_order_and_do_not_overlap(name: str, model: nn.Module) -> None:
    net = prepare(model, BITS)
    order: list[str] = []
    for unit, module in net.blocks():
        assert module is net.model.get_submodule(unit)
        module.register_forward_hook(lambda *_, unit=unit: order.append(unit))
    net.run(Images(SIDES[name]))
    names = [unit for unit, _ in net.blocks()]
    assert order == names
    assert not any(a != b and a.startswith(f"{b}.") for a in names for b in names)


def test_norm_readers_read_the_norm_and_nothing_else(name: str, model: nn.Module) -> None:
    net = prepare(model, BITS)
    pairs = net.norm_readers()
    assert len(pairs) == {"mobilevit_xxs": 18, "efficientformer_l1": 2}.get(name, 0)
    outputs: dict[nn.Module, Tensor] = {}
    read: list[bool] = []
    for norm, readers in pairs:
        norm.register_forward_hook(lambda norm, _, out: outputs.update({norm: out}))
        for reader in readers:
            reader.register_forward_pre_hook(lambda _, args, norm=norm: read.append(args[0] is outputs[norm]))
    net.run(Images(SIDES[name]))
    assert all(read) and len(read) == len(pairs)


def test_original_model_is_left_alone(model: nn.Module) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    kinds = [(type(module), getattr(module, "inplace", None)) for module in model.modules()]
    prepare(model, BITS)
    assert [(type(module), getattr(module, "inplace", None)) for module in model.modules()] == kinds
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("method", [MinMax(), OMSE(), RepQViT()], ids=lambda method: method.name)
def test_methods_on_the_embedded_mobilevit(method: Any) -> None:
    model, images = randomised(mini_mobilevit()), Images(32)
    quantised = method.quantize(model, images, BITS)
    batch = next(images.batches())
    assert audit(quantised, BITS, batch[:1], images.forward).violations == ()
    with torch.no_grad():
        expected, actual = model(batch), quantised(batch)
    assert (actual - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize(
    ("build", "family", "bridges"),
    [
        (mini_mobilevit, "mobilevit", 3),
        (mini_mobilevitv2, "mobilevitv2", 3),
        (mini_efficientformerv2, "efficientformerv2", 2),
    ],
)
def test_embedded_hybrids_are_members_of_their_families(build: Any, family: str, bridges: int) -> None:
    model, images = randomised(build()), Images(32)
    batch = next(images.batches())
    net = prepare(model, BITS)
    with torch.no_grad():
        expected, actual = model(batch), net.model(batch)
    assert family_of(model).name == family
    assert len(net.bridges()) == bridges
    assert (actual - expected).abs().max() < 1e-5 * expected.abs().max()
    quantised = MinMax().quantize(model, images, BITS)
    audited = audit(quantised, BITS, batch[:1], images.forward)
    assert audited.violations == ()
    assert audited.quantised_macs == audited.macs


def test_repq_folds_all_norms_of_the_embedded_mobilevit() -> None:
    model = randomised(mini_mobilevit())
    readers = [r for _, found in prepare(model, BITS).norm_readers() for r in found]
    assert len(readers) == 12
    quantised = RepQViT().quantize(model, Images(32), BITS)
    for reader in readers:
        quantizer: Any = quantised.get_submodule(reader.input_operand.name).quantizer
        assert quantizer.granularity == "tensor"


@pytest.mark.parametrize(
    "method",
    [EasyQuant(candidates=6), PTQ4ViT(candidates=6, rounds=1), FQViTOperands()],
    ids=lambda method: method.name,
)
@pytest.mark.parametrize("build", [mini_mobilevit, lambda: timm.create_model("efficientformerv2_s0", img_size=32)])
def test_searches_and_integer_arithmetic_on_small_hybrids(method: Any, build: Any) -> None:
    model, images = randomised(build()), Images(32)
    quantised = method.quantize(model, images, BITS)
    batch = next(images.batches())
    assert audit(quantised, BITS, batch[:1], images.forward).violations == ()
    with torch.no_grad():
        expected, actual = model(batch), quantised(batch)
    assert (actual - expected).norm() < 0.2 * expected.norm()
