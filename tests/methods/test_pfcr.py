"""PFCR: its first pass is ordinary reconstruction, later passes go on and make no merged unit worse; OASQ's units."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods import pfcr
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.log import Log2
from vitptq.methods.core.reconstruct import composite_units, reconstruct
from vitptq.methods.core.reconstruct.least_error_start import calibrated
from vitptq.methods.pfcr import PFCR

W3A3 = BitSpec(3, 3)
FAST = PFCR(iterations=12, batch=4, weight_rate=0.05, scale_rate=1e-3)


def results_of(monkeypatch: pytest.MonkeyPatch, method: PFCR, name: str = "ViT") -> list[Any]:
    """Return (tag, results) of every pass."""
    found: list[Any] = []

    def watched(*args: Any, **options: Any) -> None:
        found.append((options["tag"], reconstruct(*args, **options)))

    monkeypatch.setattr(pfcr, "reconstruct", watched)
    method.quantize(two_block_models()[name], RandomImages(), W3A3)
    return found


def test_one_fine_pass_is_ordinary_reconstruction_of_the_finest_units() -> None:
    model, calibration = two_block_models()["ViT"], RandomImages()
    method = replace(FAST, schedule="fine")
    found = method.quantize(model, calibration, W3A3).state_dict()

    net, twin = calibrated(model, calibration, W3A3)
    pfcr.set_log2(net)
    settings = replace(
        method.reconstruction(calibration), scale_rate=1e-3, input="quantised", quantised_probability=1.0
    )
    with composite_units.halves([net, twin]) as names:
        reconstruct(net, twin, calibration, settings, units=[*names, "patch_embed.proj", "head"])
    assert all(torch.equal(x, found[name]) for name, x in net.model.state_dict().items())


def test_passes_go_from_fine_to_coarse_and_make_no_unit_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = results_of(monkeypatch, FAST)
    assert [tag for tag, _ in passes] == ["pass 1, halves", "pass 2, blocks", "pass 3, groups"]
    for _, results in passes:
        assert all(r.after["loss"] <= r.before["loss"] for r in results if r.kept)
    units = [{r.name for r in results if "block" in r.name} for _, results in passes]
    assert [len(names) for names in units] == [4, 2, 1]


def test_rounding_stays_open_until_the_last_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[Any] = []
    monkeypatch.setattr(pfcr, "reconstruct", lambda *args, **options: settings.append(args[3]))
    FAST.quantize(two_block_models()["ViT"], RandomImages(), W3A3)
    assert [(s.hard, s.rounding_weight) for s in settings] == [(False, 0.0), (False, 0.0), (True, 0.01)]


def test_weights_that_stay_open_are_rounded_to_where_hard_ones_are() -> None:
    model, calibration = two_block_models()["ViT"], RandomImages()
    outputs = []
    for hard in (True, False):
        net, twin = calibrated(model, calibration, W3A3)
        steps = replace(FAST.reconstruction(calibration), hard=hard)
        reconstruct(net, twin, calibration, steps)
        outputs.append((net.model(next(calibration.batches())), net.model.get_parameter("blocks.0.mlp.fc1.weight")))
    (hard_out, hard_weight), (open_out, open_weight) = outputs
    torch.testing.assert_close(open_out, hard_out, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(open_weight, hard_weight)


@pytest.mark.parametrize(("name", "passes"), [("ViT", ("groups",)), ("Swin", ("parts",))])
def test_oasq_joins_blocks_of_one_stage_and_divides_those_of_several(name: str, passes: tuple[str, ...]) -> None:
    assert PFCR(schedule="oasq").passes(prepare(two_block_models()[name], W3A3)) == passes


def test_probabilities_are_powers_of_two_unless_asked_otherwise() -> None:
    kinds = []
    for softmax in ("log2", "uniform"):
        net = replace(FAST, schedule="blocks", iterations=0, softmax=softmax).quantize(
            two_block_models()["ViT"], RandomImages(), W3A3
        )
        kinds.append(isinstance(net.get_submodule("blocks.0.attn.av.left_operand.quantizer"), Log2))
    assert kinds == [True, False]


def test_a_group_of_one_block_is_refused() -> None:
    with pytest.raises(BadInput, match="group=1 of PFCR"):
        PFCR(group=1)
