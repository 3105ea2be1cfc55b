"""Q-HyViT: what the search chooses among, and that it never does worse than where it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.audit import audit
from bench.bits import BitSpec
from bench.contract import RandomImages, two_block_models
from methods.core.explicit import explicit
from methods.core.operands import Conv2d
from methods.core.search import Grouping, Trace, operators
from methods.ptq4vit import PTQ4ViT
from methods.q_hyvit import BridgeRun, QHyViT, asymmetric_grid, symmetric_grid
from tasks.mini.models import mini_mobilevit

BITS = BitSpec(4, 4)


class FourImages(RandomImages):
    def batches(self) -> Iterator[Tensor]:
        for batch in super().batches():
            yield batch[:4]


def test_channels_above_zero_do_not_overflow_the_zero_point() -> None:
    x = torch.rand(200, 3) + 2
    grid = asymmetric_grid(Grouping(-1, torch.arange(3), "channel"), x, 8)
    rounded = grid.quantizer(torch.ones(()))(x)
    assert ((rounded - x).abs() <= grid.scale / 2 + 1e-6).all()


@pytest.mark.parametrize("build", [symmetric_grid, asymmetric_grid])
def test_candidates_are_what_their_quantizers_put_out(build: Any) -> None:
    x = torch.randn(2, 3, 4, 5) + 0.3
    factors = torch.tensor([0.4, 1.0])
    for group in (Grouping(None, None, "tensor"), Grouping(1, torch.arange(3), "channel")):
        grid = build(group, x, 4)
        many = grid.candidates(factors)(x, 0, 2)
        for factor, rounded in zip(factors, many, strict=True):
            torch.testing.assert_close(rounded, grid.quantizer(factor)(x))


def depthwise_trace() -> Trace:
    torch.manual_seed(0)
    operator: Any = Conv2d(nn.Conv2d(4, 4, 3, groups=4), BITS).requires_grad_(False)
    x = torch.randn(3, 4, 6, 6) * torch.tensor([0.1, 1.0, 5.0, 20.0])[:, None, None] + 1
    output = operator(x)
    return Trace(operator, operator.weight, x, output, torch.rand(output.shape))


def error(trace: Trace, weight: Any, x: Any) -> float:
    operator: Any = trace.operator
    out = operator._conv_forward(x(trace.second), weight(trace.first), operator.bias)
    return ((out - trace.output) * trace.gradient).square().sum().item()


def test_each_step_of_the_search_lowers_the_error_of_a_depthwise_convolution() -> None:
    trace = depthwise_trace()
    operator: Any = trace.operator
    errors = []
    for options in ({"granularity": "layer", "scheme": "symmetric"}, {"scheme": "symmetric"}, {}):
        method = QHyViT(rounds=1, candidates=40, **options)  # type: ignore[arg-type]
        found = method._search(None, "layer", trace)  # type: ignore[arg-type]
        weight, x = found[operator.weight_operand], found[operator.input_operand]
        errors.append(error(trace, weight, x))
    start = [symmetric_grid(Grouping(None, None, "tensor"), y, 4) for y in (trace.second,)]
    rows = symmetric_grid(Grouping(0, torch.arange(4), "channel"), trace.first, 4)
    errors.insert(0, error(trace, rows.quantizer(torch.ones(())), start[0].quantizer(torch.ones(()))))
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.7 * errors[1]  # channels of so different width want a scale each


def test_without_its_ideas_it_chooses_as_ptq4vit_without_twins() -> None:
    model, images = two_block_models()["ViT"], RandomImages()
    plain = QHyViT(rounds=1, candidates=20, granularity="layer", scheme="symmetric").quantize(model, images, BITS)
    parent = PTQ4ViT(rounds=1, candidates=20, twin_softmax=False, twin_gelu=False).quantize(model, images, BITS)
    same = []
    for name, operand in explicit(model, BITS).operands.items():
        scales: list[Any] = [m.get_submodule(name).quantizer.scale for m in (plain, parent)]  # type: ignore[union-attr]
        same.append(torch.allclose(*scales) if scales[0].shape == scales[1].shape else False)
        assert operand.name == name
    assert sum(same) > 0.6 * len(same)  # factor 1 is a candidate here and not there


def test_bridge_scores_are_those_of_running_the_members() -> None:
    images = FourImages()
    net = explicit(mini_mobilevit().eval(), BITS)
    QHyViT()._defaults(net, images, operators(net, images))
    bridge = net.bridges()[0]
    block = BridgeRun(net, images, bridge)
    slot = net.operands[f"{bridge.members[0]}.weight_operand"]
    assert block.score({}) == 0
    quantizer: Any = slot.quantizer
    seen: list[Tensor] = []
    end: Any = net.model.get_submodule(bridge.outputs[0])
    handle = end.register_forward_hook(lambda *args: seen.append(args[-1]))
    for on in (False, True):
        slot.on = on
        net.run(images)
    handle.remove()
    slot.on = False
    expected = -(block.weights[0] * (seen[1] - seen[0]).square()).sum().item()
    assert block.score({slot: quantizer}) == pytest.approx(expected, rel=1e-4)
    assert not slot.on


@pytest.mark.slow
def test_bridges_of_the_embedded_mobilevit_are_searched_and_the_audit_is_clean() -> None:
    model, images = mini_mobilevit().eval(), FourImages()
    quantised = QHyViT(rounds=1, candidates=3).quantize(model, images, BITS)
    batch = next(images.batches())
    assert audit(quantised, BITS, batch[:1], images.forward).violations == ()
    without = QHyViT(rounds=1, candidates=3, bridges=False).quantize(model, images, BITS)
    with torch.no_grad():
        assert not torch.equal(quantised(batch), without(batch))
