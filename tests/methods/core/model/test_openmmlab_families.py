"""Families of OpenMMLab's detectors and segmenters: prepared at any image size, folded, quantised and audited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.model.openmmlab_models import Images, bare_swin, deit_upernet, mask_rcnn, outputs, upernet
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.families import family_of
from vitptq.methods.core.model.layer_norm import fold_into_layer_norm
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.reconstruct.plan import all_units
from vitptq.methods.minmax import MinMax
from vitptq.methods.omse import OMSE
from vitptq.methods.percentile import Percentile
from vitptq.methods.qdrop import QDrop
from vitptq.methods.repq_vit import RepQViT

BACKBONE = BitSpec(4, 4)
MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mask r-cnn": (mask_rcnn, "W4A4+neck+heads"),
    "cascade mask r-cnn": (lambda: mask_rcnn(cascade=True), "W4A4+neck+heads"),
    "upernet": (upernet, "W4A4+heads"),
    "deit upernet": (deit_upernet, "W4A4+neck+heads"),
    "swin": (bare_swin, "W4A4"),
}
SIZES = [(32, 64), (40, 56), (37, 51)]
"""Patches of 2 in windows of 4: the first size needs little padding, the last is no whole number of patches."""


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return MODELS[name][0]()


@pytest.fixture(scope="module")
def everything(name: str) -> BitSpec:
    """The widest scope that the model has."""
    return BitSpec.parse(MODELS[name][1])


def images(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def difference(model: nn.Module, other: nn.Module, size: tuple[int, int]) -> float:
    """Return the largest difference of any output, relative to the output's largest value."""
    pairs = zip(outputs(model, images(size)), outputs(other, images(size)), strict=True)
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def test_float_function_is_unchanged_at_every_size(model: nn.Module, everything: BitSpec) -> None:
    net = prepare(model, everything)
    assert all(difference(model, net.model, size) < 1e-5 for size in SIZES)


@torch.no_grad()
def test_float_function_survives_folding_at_every_size(name: str, model: nn.Module, everything: BitSpec) -> None:
    net = prepare(model, everything)
    assert len(net.norm_readers()) == (8 if "deit" in name else 15)
    for norm, readers in net.norm_readers() * 2:  # a method may fold more than once
        width = norm.weight.shape
        fold_into_layer_norm(norm, readers, scale=torch.rand(width) + 0.5, shift=torch.randn(width))
    assert all(difference(model, net.model, size) < 1e-5 for size in SIZES)


def test_every_product_of_the_scope_has_its_operands(name: str, model: nn.Module, everything: BitSpec) -> None:
    net = prepare(model, everything)
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    layers = [n for n, m in model.named_modules() if isinstance(m, kinds) and not n.startswith("auxiliary_head")]
    attentions = 4 if "deit" in name else 6
    joint = attentions if "deit" in name else 0  # the joint weight of torch's attention is no layer before
    assert len(net.weights) == len(layers) + joint
    assert len(net.operands) == 2 * len(net.weights) + 4 * attentions
    roles = [operand.role for operand in net.operands.values()]
    assert roles.count("stem_input") == 1
    assert roles.count("gelu") == roles.count("softmax") == attentions


def test_neck_and_heads_stay_as_they_are_unless_named(name: str, model: nn.Module) -> None:
    net = prepare(model, BACKBONE)
    inside = "" if name == "swin" else "backbone."
    assert all(operand.startswith(inside) for operand in net.operands)
    assert all(unit.startswith(inside) for unit, _ in net.blocks())


@pytest.mark.parametrize("method", [MinMax(), Percentile(), OMSE(), RepQViT()], ids=lambda method: method.name)
def test_audit_of_backbone_neck_and_heads_is_clean(method: Any, model: nn.Module, everything: BitSpec) -> None:
    calibration = Images((40, 56), (33, 47))
    quantised = method.quantize(model, calibration, everything)
    audited = audit(quantised, everything, images((37, 51), count=1), calibration.forward)
    assert audited.violations == audited.float_operands == ()
    assert audited.quantised_macs == audited.macs > 0


def test_audit_of_the_backbone_alone_lists_the_rest_as_float(name: str, model: nn.Module) -> None:
    calibration = Images((40, 56))
    quantised = MinMax().quantize(model, calibration, BACKBONE)
    audited = audit(quantised, BACKBONE, images((37, 51), count=1), calibration.forward)
    assert audited.violations == ()
    left = {operand.partition(".")[0] for operand in audited.float_operands}
    parts = {"neck", "rpn_head", "roi_head"} if "r-cnn" in name else {"decode_head"} if "upernet" in name else set()
    assert left == parts | ({"neck"} if "deit" in name else set())
    assert 0 < audited.quantised_macs <= audited.macs


def test_blocks_are_modules_in_execution_order(model: nn.Module, everything: BitSpec) -> None:
    net = prepare(model, everything)
    order: list[str] = []
    for unit, module in net.blocks():
        assert module is net.model.get_submodule(unit)
        module.register_forward_hook(lambda *_, unit=unit: order.append(unit))
    net.run(Images((40, 56)))
    names = [unit for unit, _ in net.blocks()]
    assert order == names
    assert not any(a != b and a.startswith(f"{b}.") for a in names for b in names)


def test_every_layer_is_in_one_unit_of_reconstruction(model: nn.Module, everything: BitSpec) -> None:
    net = prepare(model, everything)
    units = [f"{unit}." for unit in all_units(net)]
    assert all(sum(weight.startswith(unit) for unit in units) == 1 for weight in net.weights)


@pytest.mark.parametrize(("build", "scope"), [(mask_rcnn, "W4A4+neck+heads"), (upernet, "W4A4+heads")])
def test_reconstruction_runs_on_every_unit(build: Callable[[], nn.Module], scope: str) -> None:
    calibration, bits = Images((40, 56), (33, 47)), BitSpec.parse(scope)
    quantised = QDrop(iterations=2).quantize(build(), calibration, bits)
    assert audit(quantised, bits, images((37, 51), count=1), calibration.forward).violations == ()


def test_features_are_differentiable_maps(model: nn.Module) -> None:
    x = images((37, 51)).requires_grad_()
    maps = family_of(model).features(model, x)
    assert all(found.ndim == 4 and len(found) == 2 for found in maps)
    (gradient,) = torch.autograd.grad(sum((found.square().mean() for found in maps), torch.zeros(())), x)
    assert gradient.abs().max() > 0


def test_auxiliary_head_is_left_alone() -> None:
    net = prepare(upernet(), BitSpec.parse("W4A4+heads"))
    assert not any(operand.startswith("auxiliary_head") for operand in net.operands)


@torch.no_grad()
def test_a_quantised_detector_predicts() -> None:
    from mmdet.structures import DetDataSample

    quantised: Any = RepQViT().quantize(mask_rcnn(), Images((32, 48)), BitSpec.parse("W8A8+neck+heads"))
    meta = {"img_shape": (30, 44), "ori_shape": (60, 88), "scale_factor": (0.5, 0.5), "batch_input_shape": (32, 48)}
    (found,) = quantised(images((32, 48), count=1), [DetDataSample(metainfo=meta)], mode="predict")
    assert 0 < len(found.pred_instances) <= 5
    assert found.pred_instances.masks.shape[1:] == (60, 88)


@torch.no_grad()
def test_a_quantised_segmenter_predicts() -> None:
    quantised: Any = RepQViT().quantize(upernet(), Images((40, 56)), BitSpec.parse("W8A8+heads"))
    (found,) = quantised(images((37, 51), count=1), mode="predict")
    assert found.pred_sem_seg.data.shape == (1, 37, 51)
