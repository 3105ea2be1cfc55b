"""AdaLog: what stands where, and that its two forms run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.methods.core.model.openmmlab_models import Images, bare_swin
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.adalog import AdaLog, _LogSearch, _own_error, ceiling_candidates
from vitptq.methods.core.model.operands import Conv2d
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.adaptive_log import GELU_DEPTH, AdaptiveLog
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.fpcs import FPCSBudget
from vitptq.methods.core.search.recording import Inputs

FAST = AdaLog(reconstruct=False, rounds=1, candidates=32, steps=2)


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_logarithms_stand_behind_softmax_and_gelu_alone(name: str) -> None:
    net = prepare(two_block_models()[name], BitSpec(4, 4))
    FAST.search(net, RandomImages())
    for operand in net.operands.values():
        logarithmic = operand.role in ("softmax", "gelu")
        assert isinstance(operand.quantizer, AdaptiveLog if logarithmic else Uniform), operand.name
        if operand.role == "softmax":
            assert operand.quantizer.ceiling == 1 and not operand.quantizer.shift
        elif operand.role in ("query", "key", "value"):
            assert operand.quantizer.granularity == "head"


def test_shifts_are_folded_and_the_ceiling_was_trained() -> None:
    model = two_block_models()["ViT"]
    method = AdaLog(iterations=6, scale_rate=1e-2, rounds=1, candidates=32, steps=2)
    searched = FAST.quantize(model, RandomImages(), BitSpec(3, 3))
    trained = method.quantize(model, RandomImages(), BitSpec(3, 3))
    moved = []
    for before, after in zip(searched.modules(), trained.modules(), strict=True):
        if isinstance(before, AdaptiveLog) and before.shift:
            assert before.folded and after.folded and before.grid().min() == 0
            moved.append(bool(before.ceiling != after.ceiling))
    assert len(moved) == 2 and any(moved)


def test_ceilings_lie_between_the_quantile_and_the_largest_value() -> None:
    values = torch.nn.functional.gelu(torch.randn(4000))
    found = ceiling_candidates(values, GELU_DEPTH, 16) - GELU_DEPTH
    torch.testing.assert_close(found[0], values[values > 0].quantile(0.9))
    torch.testing.assert_close(found[-1], values.max())


def test_images_of_different_sizes() -> None:
    images, bits = Images((32, 64), (40, 56)), BitSpec(4, 4)
    net = FAST.quantize(bare_swin(), images, bits)
    example = next(iter(images.batches()))[:1]
    assert not audit(net, bits, example, images.forward).violations


def test_convolutions_behind_a_gelu_keep_the_shift() -> None:
    torch.manual_seed(0)
    layer = Conv2d(nn.Conv2d(4, 5, 1), BitSpec(4, 4), "gelu").requires_grad_(False)
    x = nn.functional.gelu(torch.randn(2, 4, 6, 6))
    _LogSearch(FPCSBudget(32, 8, 2), 1, "last").layer(layer, Inputs((), (x.reshape(-1, 1),)), GELU_DEPTH)
    before = layer(x)
    layer.input_operand.on = layer.weight_operand.on = True
    grid = layer.input_operand.quantizer
    assert isinstance(grid, AdaptiveLog) and grid.grid().min() == -torch.tensor(GELU_DEPTH)
    assert (layer(x) - before).norm() < 0.2 * before.norm()


def test_the_search_finds_the_base_that_the_values_have() -> None:
    values = AdaptiveLog(4, torch.ones(()), torch.tensor(23.0))(torch.rand(4000))
    search = _LogSearch(FPCSBudget(32, steps=1), 1, "last")
    _, q = search._base_and_ceiling(values, torch.ones(()), 0.0, _own_error(values, search._kind(4, 0.0)))
    assert q.item() == 23


def test_two_steps_score_the_pairs_and_refine_the_ceiling_once() -> None:
    torch.manual_seed(0)
    values = nn.functional.gelu(torch.randn(2000))
    search = _LogSearch(FPCSBudget(32, steps=2), 1)
    own = _own_error(values, search._kind(3, GELU_DEPTH))
    scored: list[torch.Tensor] = []

    def error(ceilings: torch.Tensor, q: torch.Tensor, wanted: int | None = None) -> torch.Tensor:
        scored.append(ceilings)
        return own(ceilings, q)

    search._base_and_ceiling(values, ceiling_candidates(values, GELU_DEPTH, 16)[-2], GELU_DEPTH, error)
    bases_alone, pairs, refined = scored
    assert bases_alone.unique().numel() == 1
    assert not torch.isin(refined, pairs).all()


def test_a_unit_is_trained_through_the_logarithm_where_asked() -> None:
    model = two_block_models()["ViT"]
    table, log = (
        AdaLog(iterations=4, scale_rate=1e-2, rounds=1, candidates=32, steps=1, gradient=gradient).quantize(
            model, RandomImages(), BitSpec(3, 3)
        )
        for gradient in ("table", "log")
    )
    ceilings = [[m.ceiling for m in net.modules() if isinstance(m, AdaptiveLog) and m.shift] for net in (table, log)]
    assert any(a != b for a, b in zip(*ceilings, strict=True))
