"""What the families of OpenMMLab's models share: units, image outputs, and no import of their packages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.model import openmmlab_models
from tests.methods.core.model.openmmlab_models import Images, bare_swin, deit_upernet, mask_rcnn, outputs, upernet
from vitptq import methods
from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.minmax import MinMax
from vitptq.methods.repq_vit import RepQViT

MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mask r-cnn": (mask_rcnn, "W4A4+neck+heads"),
    "cascade mask r-cnn": (lambda: mask_rcnn(cascade=True), "W4A4+neck+heads"),
    "upernet": (upernet, "W4A4+heads"),
    "deit upernet": (deit_upernet, "W4A4+neck+heads"),
    "swin": (bare_swin, "W4A4"),
}


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> nn.Module:
    return MODELS[name][0]()


def images(size: tuple[int, int], count: int = 2) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def test_operands_outside_every_unit_are_refused() -> None:
    model: Any = mask_rcnn()
    model.roi_head.extra = nn.Linear(2, 2)
    with pytest.raises(Unsupported, match="no units of reconstruction for the neck or heads of this MaskRCNN"):
        prepare(model, BitSpec.parse("W4A4+neck+heads")).blocks()


@torch.no_grad()
def test_heads_take_no_proposals_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, bits, calibration = mask_rcnn(), BitSpec.parse("W4A4+neck+heads"), Images((40, 56))
    quantised = MinMax().quantize(model, calibration, bits)
    monkeypatch.setattr(openmmlab_models, "BOXES", torch.zeros(0, 5))
    shapes = [found.shape for found in outputs(quantised, images((32, 32)))]
    assert shapes == [found.shape for found in outputs(model, images((32, 32)))]
    assert shapes[-1] == (0, 3, 28, 28)
    assert audit(quantised, bits, images((32, 32), count=1), calibration.forward).violations == ()
    for method in (MinMax(), RepQViT()):
        with pytest.raises(Unsupported, match=r"roi_head\.bbox_head\..* did not run on the .*calibration"):
            method.quantize(model, calibration, bits)


def test_quantised_model_has_the_products_of_the_float_one(name: str, model: nn.Module) -> None:
    bits, calibration = BitSpec.parse(MODELS[name][1]), Images((64, 64))
    batch = images((64, 64), count=1)
    reference = audit(model, FLOAT, batch, calibration.forward)
    quantised = MinMax().quantize(model, calibration, bits)
    assert audit(quantised, bits, batch, calibration.forward, float_audit=reference).violations == ()


def test_no_method_imports_openmmlab() -> None:
    sources = Path(methods.__file__).parent.rglob("*.py")
    pattern = re.compile(r"^\s*(import|from) mm(cv|det|seg|engine)", re.MULTILINE)
    assert [source.name for source in sources if pattern.search(source.read_text("utf-8"))] == []
