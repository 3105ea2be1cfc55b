"""MGRQ: its terms on the float model, the fusion, the float tail, and what switching a supervision off leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.core.model import openmmlab_models
from tests.methods.core.model.openmmlab_models import Images
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods import mgrq
from vitptq.methods.core.model.openmmlab import image_outputs
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.reconstruct import (
    Settings,
    reconstruct,
)
from vitptq.methods.mgrq import MGRQ

W4A4 = BitSpec(4, 4)
STEPS = Settings(
    iterations=1,
    weights="ste",
    weight_rate=0.0,
    input="quantised",
    quantised_probability=1.0,
    scales=False,
    normalise=1.0,
)


def terms_of(method: MGRQ, name: str, bits: BitSpec, settings: Settings = STEPS):
    """Return (before, after) of each term, per unit, for a model whose operands are off."""
    model, calibration = two_block_models()[name], RandomImages()
    net, twin = prepare(model, bits), prepare(model, bits)
    return reconstruct(net, twin, calibration, settings, loss=method.losses(net, twin, calibration))


@pytest.mark.parametrize("name", ["ViT", "Swin"])
@pytest.mark.parametrize("local", ["channels", "moments", "squared"])
def test_every_term_is_nought_while_nothing_is_quantised(name, local):
    for result in terms_of(MGRQ(local=local), name, W4A4):
        if "downsample" not in result.name:
            assert set(result.before) == {"block", "global", "local"}
        assert all(value < 1e-7 for value in result.before.values()), result


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_features_are_supervised_as_maps_and_not_as_logits(name):
    results = terms_of(MGRQ(global_target="features"), name, W4A4)
    assert all(value < 1e-7 for result in results for value in result.before.values())
    features = (torch.tensor([[1.0, 3.0]]),)
    assert mgrq.maps_apart((features[0] + 1,), features) != mgrq.predictions_apart((features[0] + 1,), features)


def test_the_target_of_the_global_term_changes_it():
    model, calibration = two_block_models()["ViT"], RandomImages()
    found = []
    for target in ("logits", "features"):
        net, twin = mgrq.RepQViT().calibrated(model, calibration, W4A4), prepare(model, W4A4)
        losses = MGRQ(global_target=target).losses(net, twin, calibration)
        (first, *_) = reconstruct(net, twin, calibration, replace(STEPS, iterations=0), loss=losses)
        found.append(first.before["global"])
    assert found[0] > 0 and found[1] > 0 and found[0] != found[1]


def test_a_supervision_that_is_off_is_no_term():
    (first, *_) = terms_of(MGRQ(global_weight=0, local_weight=0), "ViT", W4A4)
    assert set(first.before) == {"block"}


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_training_lowers_the_sum_of_the_terms_over_their_first_values(name):
    bits, calibration = BitSpec(3, 3), RandomImages()
    method = MGRQ(iterations=40, rate=1e-3, batch=8)
    model = two_block_models()[name]
    net, twin = mgrq.RepQViT().calibrated(model, calibration, bits), prepare(model, bits)
    settings = Settings(
        iterations=40, batch=8, weights="ste", weight_rate=1e-3, weight_schedule="cosine", biases=True,
        scales=False, input="quantised", quantised_probability=1.0, normalise=1.0,
    )  # fmt: skip

    for result in reconstruct(net, twin, calibration, settings, loss=method.losses(net, twin, calibration)):
        assert result.kept
        ratios = [result.after[term] / result.before[term] for term in result.before]
        assert sum(ratios) < len(ratios), result


def test_the_suffix_skips_the_blocks_in_front_only_where_nothing_else_reads_them():
    model, calibration = two_block_models()["ViT"], RandomImages()
    net, twin = prepare(model, W4A4), prepare(model, W4A4)
    chains: dict[str, bool | None] = {}

    def loss(unit):
        float_tail = unit.float_tail()

        def value(seen):
            out = float_tail(seen.outputs, seen.indices)
            chains[unit.name] = float_tail._chain
            (batch,) = calibration.batches()
            torch.testing.assert_close(out, model(batch[seen.indices]), rtol=1e-4, atol=1e-5)
            return (out - out.detach()).square().sum()

        return value

    reconstruct(net, twin, calibration, STEPS, loss=loss)
    assert chains == {"blocks.0": False, "blocks.1": True}


class FirstBlockAgain(RandomImages):
    """Predictions that also read what the first block puts out, as a detector's neck reads every stage."""

    def forward(self, model, batch):
        seen: dict[str, Tensor] = {}
        handle = model.blocks[0].register_forward_hook(lambda module, args, out: seen.update(first=out))
        try:
            logits = model(batch)
        finally:
            handle.remove()
        return logits + seen["first"].mean((1, 2))[:, None]


def test_a_model_that_reads_its_first_block_again_is_no_chain():
    model, calibration = two_block_models()["ViT"], FirstBlockAgain()
    net, twin = prepare(model, W4A4), prepare(model, W4A4)
    chains = {}

    def loss(unit):
        float_tail = unit.float_tail()

        def value(seen):
            out = float_tail(seen.outputs, seen.indices)
            chains[unit.name] = float_tail._chain
            return (out - out.detach()).square().sum()

        return value

    reconstruct(net, twin, calibration, STEPS, loss=loss)
    assert chains == {"blocks.0": False, "blocks.1": False}


def test_the_channel_divergence_by_hand():
    out, target = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.0, torch.log(torch.tensor(3.0))]]])
    expected = 0.25 * torch.log(torch.tensor(0.25 / 0.5)) + 0.75 * torch.log(torch.tensor(0.75 / 0.5))
    torch.testing.assert_close(mgrq.channel_divergence(out, target), expected)


def test_maps_count_by_their_variance():
    expected = (torch.tensor([[[1.0, 3.0]], [[1.0, 3.0]]]), torch.tensor([[[2.0]], [[6.0]]]))
    actual = (expected[0] + 1.0, expected[1])
    torch.testing.assert_close(mgrq.predictions_apart(actual, expected), 1 / expected[0].var())


def test_a_detector_is_supervised_on_whole_images_and_its_heads_behind_the_proposals_never_run():
    pytest.importorskip("mmdet")
    model, calibration = openmmlab_models.mask_rcnn(), Images((32, 32))
    twin, method = prepare(model, W4A4), MGRQ()
    ran = []
    for head in (twin.model.roi_head.bbox_head, twin.model.roi_head.mask_head):
        head.register_forward_hook(lambda *_: ran.append(True))
    net = mgrq.RepQViT().calibrated(model, calibration, W4A4)
    losses = method.losses(net, twin, calibration)
    assert not ran
    (batch,) = calibration.batches()
    seen: list[Tensor] = []

    def loss(unit):
        own = losses(unit)

        def value(found):
            ran.clear()  # of the engine's plan
            terms = own(found)
            assert not ran
            if found.indices.tolist() == [0, 1]:
                seen.append(terms["global"])
                same = unit.float_tail(image_outputs)(found.targets, found.indices)
                expected = calibration.forward(twin.model, batch)[: len(same)]
                assert len(same) == 15 and all(len(x) == 2 for x in same)
                for a, b in zip(same, expected, strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            return terms

        return value

    reconstruct(net, twin, calibration, replace(STEPS, iterations=0), loss=loss, units=["backbone.stages.1.blocks.0"])
    assert seen and all(term > 0 for term in seen)


def test_six_bits_take_fewer_steps():
    assert [MGRQ().steps(BitSpec(b, b)) for b in (3, 4, 6, 8)] == [1000, 1000, 200, 200]
    assert MGRQ(iterations=7).steps(W4A4) == 7


DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", mgrq.DISTANCES)
def test_local_distances_of_mgrq(name: Any) -> None:
    target, distance = drawn(2, 5, 3, seed=1), mgrq.DISTANCES[name]
    assert torch.autograd.gradcheck(lambda out: distance(out, target), drawn(2, 5, 3, seed=2).requires_grad_())


def test_predictions_of_mgrq() -> None:
    logits = (drawn(4, 6, seed=1),)
    given = drawn(4, 6, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mgrq.predictions_apart((x,), logits), given)
    maps = (drawn(2, 3, 4, seed=3), drawn(2, 5, seed=4))
    pair = (drawn(2, 3, 4, seed=5).requires_grad_(), drawn(2, 5, seed=6).requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: mgrq.predictions_apart(x, maps), pair)
