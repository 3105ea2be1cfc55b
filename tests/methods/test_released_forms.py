"""The switch `form="released"`: what the authors' code does otherwise, adapter by adapter."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Method
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.adalog import AdaLog
from vitptq.methods.aphq_vit import APHQViT
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.quantizers.adaptive_log import AdaptiveLog
from vitptq.methods.core.quantizers.shift_uniform_log2 import ShiftUniformLog2
from vitptq.methods.core.quantizers.twin_uniform import TwinSoftmax
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.is_vit import ISViT
from vitptq.methods.ptq4vit import PTQ4ViT
from vitptq.methods.repq_vit import RepQViT

BITS = BitSpec(4, 4)
FLOAT_IMAGE: tuple[type[Method], ...] = (AdaLog, APHQViT, ISViT, PTQ4ViT)


@cache
def quantised(cls: type[Method], form: str) -> nn.Module:
    method = cls.configured({**cls.trial, "form": form})
    return method.quantize(two_block_models()["ViT"], RandomImages(), BITS)


def image_is_quantised(model: nn.Module) -> bool:
    (stem,) = (module for module in model.modules() if isinstance(module, Operand) and module.role == "stem_input")
    return stem.on


@pytest.mark.parametrize("cls", FLOAT_IMAGE, ids=lambda cls: cls.name)
def test_the_released_forms_leave_the_image_alone_in_float(cls: type[Method]) -> None:
    assert image_is_quantised(quantised(cls, "paper"))
    model = quantised(cls, "released")
    off = [module.role for module in model.modules() if isinstance(module, Operand) and not module.on]
    assert off == ["stem_input"]


def test_adalogs_released_form_has_an_extra_zero_and_trains_through_the_logarithm() -> None:
    grids = [module for module in quantised(AdaLog, "released").modules() if isinstance(module, AdaptiveLog)]
    assert len(grids) == 4
    assert {(grid.zero_code, grid.gradient) for grid in grids} == {("extra", "log")}


def test_ptq4vits_released_form_adds_the_twin_ranges() -> None:
    grids = [module for module in quantised(PTQ4ViT, "released").modules() if isinstance(module, TwinSoftmax)]
    assert grids and {grid.form for grid in grids} == {"sum"}


def test_is_vits_released_form_has_the_codes_grid_and_real_zero_points() -> None:
    modules = list(quantised(ISViT, "released").modules())
    grids = [module for module in modules if isinstance(module, ShiftUniformLog2)]
    assert grids and {len(grid.table) for grid in grids} == {2**4 + 1}
    zeros = [module.zero_point for module in modules if isinstance(module, Uniform) and module.zero_point.numel() == 1]
    assert any(zero != zero.round() for zero in zeros)


def test_repq_vits_released_form_is_that_of_its_two_parameters() -> None:
    x = next(RandomImages().batches())
    model, images = two_block_models()["ViT"], RandomImages()
    apart = RepQViT(round_zero_point=False, zero_code="extra").quantize(model, images, BITS)
    assert torch.equal(quantised(RepQViT, "released")(x), apart(x))
    assert not torch.equal(quantised(RepQViT, "paper")(x), apart(x))


@pytest.mark.parametrize(("bits", "expected"), [(2, 0.98), (3, 0.99), (4, 0.98), (6, 0.99)])
def test_aphq_vits_released_form_clamps_at_another_quantile(bits: int, expected: float) -> None:
    assert APHQViT(form="released")._clamp_percentile(bits) == expected
    assert APHQViT()._clamp_percentile(bits) == 0.99


@pytest.mark.parametrize(("form", "kept"), [("paper", False), ("released", True)])
def test_units_that_got_worse_keep_their_training_in_the_released_forms(form: str, kept: bool) -> None:
    smooth, weighted = ISViT.configured({"form": form}), APHQViT.configured({"form": form})
    assert isinstance(smooth, ISViT) and isinstance(weighted, APHQViT)
    assert smooth.stages(RandomImages(), BITS).settings.keep_better is not kept
    assert weighted.block_settings(RandomImages()).keep_better is not kept


@pytest.mark.parametrize(("form", "expected"), [("paper", "paper"), ("released", "parity")])
@pytest.mark.parametrize("cls", [RepQViT, PTQ4ViT], ids=lambda cls: cls.name)
def test_only_the_compared_form_states_parity(cls: type[Method], form: str, expected: str) -> None:
    assert cls.configured({"form": form}).fidelity_as_configured() == expected
