"""Q-HyViT: what the search chooses among, and that it never does worse than where it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.efficientformer_v2 import EfficientFormerV2
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit
from vitptq.methods.core.model.families import Bridge
from vitptq.methods.core.model.operands import Conv2d
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.integer import IntegerLayerNorm, LogIntSoftmax
from vitptq.methods.core.search.bridge import BlockContest, BridgeRun, switched_on
from vitptq.methods.core.search.elimination import race
from vitptq.methods.core.search.recording import Side, Trace, operators, record_all
from vitptq.methods.core.search.scale_grids import asymmetric_grid, symmetric_grid
from vitptq.methods.core.search.side_search import Grouping
from vitptq.methods.core.sensitivity.fisher import output_gradients
from vitptq.methods.ptq4vit import PTQ4ViT
from vitptq.methods.q_hyvit import QHyViT, slot_of

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
        many = grid.candidates(factors)(x, torch.arange(2))
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
        found = method._search(None, "layer", trace, {})  # type: ignore[arg-type]
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
    for name, operand in prepare(model, BITS).operands.items():
        scales: list[Any] = [m.get_submodule(name).quantizer.scale for m in (plain, parent)]  # type: ignore[union-attr]
        same.append(torch.allclose(*scales) if scales[0].shape == scales[1].shape else False)
        assert operand.name == name
    assert sum(same) > 0.6 * len(same)  # factor 1 is a candidate here and not there


def tiny_mobilevit() -> nn.Module:
    torch.manual_seed(5)
    bottle = ByoBlockCfg(
        type="bottle", d=1, c=8, s=2, gs=1, br=2.0, block_kwargs={"bottle_in": True, "linear_out": True}
    )
    tokens = {"transformer_dim": 16, "transformer_depth": 1, "patch_size": 2}
    hybrid = ByoBlockCfg(type="mobilevit", d=1, c=8, s=1, block_kwargs=tokens)
    stem = {"stem_chs": 8, "stem_type": "3x3", "stem_pool": "", "downsample": "", "act_layer": "silu"}
    return ByobNet(
        ByoModelCfg(blocks=(bottle, (bottle, hybrid)), num_features=16, **stem), num_classes=10, img_size=32
    ).eval()


def tiny_efficientformerv2() -> nn.Module:
    torch.manual_seed(5)
    net = EfficientFormerV2(
        depths=(1, 1, 2, 2), embed_dims=(8, 8, 16, 16), img_size=64, num_vit=1, mlp_ratios=2.0, num_classes=10
    )
    with torch.no_grad():
        for module in net.modules():
            if hasattr(module, "gamma"):  # fresh layer scales hide what a branch does
                module.gamma.fill_(0.5)
    return net.eval()


class Larger(FourImages):
    def batches(self) -> Iterator[Tensor]:
        for batch in super().batches():
            yield nn.functional.interpolate(batch, size=64)


HYBRIDS: dict[str, tuple[Any, Any]] = {
    "convolution to joint layer": (tiny_mobilevit, FourImages),
    "behind a residual sum, to three layers": (tiny_efficientformerv2, Larger),
}


@pytest.fixture(params=HYBRIDS)
def hybrid(request: pytest.FixtureRequest) -> tuple[nn.Module, Calibration]:
    build, images = HYBRIDS[request.param]
    return build(), images()


def bridge_run(model: nn.Module, images: Calibration) -> tuple[PreparedModel, Bridge, BridgeRun]:
    net = prepare(model, BITS)
    QHyViT()._defaults(net, images, operators(net, images))
    bridge = net.bridges()[-1]
    gradients = output_gradients(net, images, [net.model.get_submodule(name) for name in bridge.outputs], "quantised")
    return net, bridge, BridgeRun(net, images, bridge, gradients)


@pytest.mark.parametrize("side", ["first", "second"])
def test_bridge_candidates_stacked_along_the_batch_equal_a_loop_over_the_whole_model(
    hybrid: tuple[nn.Module, Calibration], side: Side
) -> None:
    model, images = hybrid
    net, bridge, run = bridge_run(model, images)
    member: Any = net.model.get_submodule(bridge.members[0])
    ends: list[Any] = [net.model.get_submodule(name) for name in bridge.outputs]
    slots = {"first": member.weight_operand, "second": member.input_operand}
    others = {slot: slot.quantizer for end in ends for slot in (end.weight_operand, end.input_operand)}
    fixed_slot = slots["second" if side == "first" else "first"]
    raw = {"first": member.weight.detach(), "second": run.x}
    fixed = fixed_slot.quantizer(raw["second" if side == "first" else "first"])
    factors = torch.tensor([0.3, 0.8, 1.0])
    rows = Grouping(0, torch.arange(len(member.weight)), "channel")
    group = rows if side == "first" else Grouping(None, None, "tensor")
    grid = symmetric_grid(group, raw[side], 4)
    contest = BlockContest(run, side, fixed, grid.candidates(factors), others, None, (1.0, 1.0), torch.arange(4))
    stacked = contest.losses(torch.arange(3), slice(0, 4))[..., 0]
    shuffled = contest.ordered(torch.tensor([2, 0, 3, 1])).losses(torch.arange(3), slice(1, 3))[..., 0]
    torch.testing.assert_close(shuffled, stacked[:, [0, 3]])
    assert race(contest, 3, step=1).place.item() == stacked.sum(1).argmin().item()

    targets = [trace.output for trace in record_all(net, images, ends)]
    for k, factor in enumerate(factors):
        with switched_on(others | {fixed_slot: fixed_slot.quantizer, slots[side]: grid.quantizer(factor)}):
            outs = [trace.output for trace in record_all(net, images, ends)]
        error = torch.zeros(4)
        for out, target, gradient in zip(outs, targets, run.gradients, strict=True):
            error += ((out - target) * gradient).square().reshape(4, -1).sum(1)
        torch.testing.assert_close(stacked[k], error, rtol=2e-3, atol=1e-8)
    assert not any(slot.on for slot in net.operands.values())
    assert "forward" not in vars(member)


def test_bridges_change_what_is_chosen_and_the_audit_is_clean(hybrid: tuple[nn.Module, Calibration]) -> None:
    model, images = hybrid
    quantised = QHyViT(rounds=1, candidates=8).quantize(model, images, BITS)
    batch = next(images.batches())
    assert audit(quantised, BITS, batch[:1], images.forward).violations == ()
    without = QHyViT(rounds=1, candidates=8, bridges=False).quantize(model, images, BITS)
    with torch.no_grad():
        assert not torch.equal(quantised(batch), without(batch))


def test_block_and_own_error_count_alike_at_the_starting_point() -> None:
    net, bridge, run = bridge_run(tiny_mobilevit(), FourImages())
    method = QHyViT(bridge_score="block+own")
    turns = []
    for name in bridge.members:
        layer: Any = net.model.get_submodule(name)
        turns += method._turns(net, name, layer, layer.weight.detach(), run.into(layer, {}))
    own = torch.rand_like(run.own)
    block, alone = method._scales(run, turns, own)
    first, second, *others = turns
    quantizers = {slot_of(turn): turn.quantizer for turn in others}
    grid, one, order = first.grids[0], torch.ones(1), torch.arange(4)
    contest = BlockContest(
        run, "first", second.quantizer(second.x), grid.candidates(one), quantizers, own, (block, alone), order
    )
    total = contest.losses(torch.zeros(1, dtype=torch.long), slice(0, 4)).sum()
    assert total.item() == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "full"},
        {"bridge_score": "block+own", "gradient_point": "bridge"},
        {"granularity": "rule", "scheme": "symmetric"},
    ],
)
def test_variants_pass_the_audit_on_a_hybrid(options: dict[str, Any]) -> None:
    images = FourImages()
    quantised = QHyViT(rounds=1, candidates=2, **options).quantize(tiny_mobilevit(), images, BITS)
    batch = next(images.batches())
    assert audit(quantised, BITS, batch[:1], images.forward).violations == ()
    integer = [m for m in quantised.modules() if isinstance(m, IntegerLayerNorm)]
    softmaxes = [m for m in quantised.modules() if isinstance(m, LogIntSoftmax)]
    assert (len(integer) > 0) == (len(softmaxes) > 0) == ("mode" in options)
    inputs = {n: m for n, m in quantised.named_modules() if n.endswith("conv2_kxk.conv.input_operand.quantizer")}
    if options.get("granularity") == "rule":
        found: Any = list(inputs.values())
        assert found and all(quantizer.granularity == "channel" and quantizer.low < 0 for quantizer in found)
