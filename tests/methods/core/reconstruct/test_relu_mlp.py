"""MLP reconstruction: the swap, the loss by hand, and that it keeps the output and shrinks the hidden range."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.model.openmmlab_models import Images, bare_swin, deit_upernet
from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.families import Mlp
from vitptq.methods.core.model.operands import watching
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.reconstruct import Settings, StepTensors
from vitptq.methods.core.reconstruct.relu_mlp import mlp_error, mlps_of, reconstruct_mlps, upper_bounds, with_relu
from vitptq.tasks.mini.models.classifiers import mini_mobilevit

BITS = BitSpec(4, 4)


def settings(steps: int) -> Settings:
    return Settings(
        iterations=steps, batch=8, weights="ste", weight_rate=2e-3, weight_schedule="cosine", biases=True,
        scales=False, input="float", quantised_probability=1.0, term_weights={"clamped": 2.0},
    )  # fmt: skip


def wide(name: str) -> nn.Module:
    """Return a model whose MLPs have hidden values of some size."""
    model = two_block_models()[name]
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.constant_(module.weight, 4.0)
    return model


def hidden(net: PreparedModel, mlps: list[Mlp]) -> list[Tensor]:
    found: list[Tensor] = []
    slots = {m.second: net.operands[f"{m.second}.input_operand"] for m in mlps}
    with watching(slots, lambda operand, x: found.append(x.detach())):
        net.run(RandomImages())
    return found


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_without_steps_it_is_the_swap_alone(name: str) -> None:
    model = wide(name)
    net, swapped = prepare(model, BITS), prepare(model, BITS)
    reconstruct_mlps(net, prepare(model, BITS), RandomImages(), settings(0), {}, percentile=0.99)
    with_relu(swapped, mlps_of(swapped))
    (images,) = RandomImages().batches()
    assert torch.equal(net.model(images), swapped.model(images))
    assert not torch.equal(net.model(images), model(images))
    assert not any(isinstance(m, nn.GELU) for m in net.model.modules())


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_output_comes_back_and_the_hidden_range_shrinks(name: str) -> None:
    model = wide(name)
    net, twin, swapped = (prepare(model, BITS) for _ in range(3))
    with_relu(swapped, mlps_of(swapped))
    reconstruct_mlps(net, twin, RandomImages(), settings(60), {}, percentile=0.9)
    (images,) = RandomImages().batches()
    expected = model(images)
    assert (net.model(images) - expected).norm() < 0.7 * (swapped.model(images) - expected).norm()
    for before, after in zip(hidden(swapped, mlps_of(twin)), hidden(net, mlps_of(twin)), strict=True):
        assert after.flatten().quantile(0.999) < before.flatten().quantile(0.999)
    assert not any(p.requires_grad for p in net.model.parameters())


def test_the_loss_by_hand() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Identity(), nn.Linear(1, 2, bias=False)
            nn.init.constant_(self.fc2.weight, 1.0)

    module = Half()
    unit: Any = SimpleNamespace(name="block.mlp", module=module, tap=lambda *names: None)
    mlp = Mlp("block.mlp", "block.mlp.fc1", "block.mlp.act", "block.mlp.fc2")
    importance = torch.tensor([[1.0, 7.0], [1.0, 7.0]])  # root mean square 5: weights 0.2 and 1.4
    loss = mlp_error(unit, mlp, torch.tensor(2.0), importance)
    before = torch.tensor([[[3.0], [-1.0]]])  # one image, two positions; clamped to 2 and 0
    target = torch.tensor([[[1.0, 1.0], [0.0, 2.0]]])
    seen = StepTensors([], [], torch.zeros(1), {"fc1": before, "fc2": module.fc2(before.relu())}, {"fc2": target})
    terms = loss(seen)
    # plain: outputs 3 and 0; channel 0: 0.2 (4 + 0), channel 1: 1.4 (4 + 4); clamped: 0.2 (1 + 0), 1.4 (1 + 4)
    assert terms["output"].item() == pytest.approx((0.8 + 11.2) / 2 / 10)
    assert terms["clamped"].item() == pytest.approx((0.2 + 7.0) / 2 / 10)


def test_the_bound_is_a_quantile_of_the_positive_values() -> None:
    twin = prepare(wide("ViT"), BITS)
    mlps = mlps_of(twin)
    bounds = upper_bounds(twin, RandomImages(), mlps, 0.98)
    for mlp, x in zip(mlps, hidden(twin, mlps), strict=True):
        torch.testing.assert_close(bounds[mlp.whole], x[x > 0].quantile(0.98))


@pytest.mark.parametrize("build", [bare_swin, deit_upernet])
def test_feed_forwards_of_detectors_and_segmenters(build: Any) -> None:
    model = build()
    net, twin = prepare(model, BITS), prepare(model, BITS)
    images = Images((32, 64), (40, 56))
    reconstruct_mlps(net, twin, images, settings(1), {}, percentile=0.99)
    assert len(mlps_of(twin)) == len(twin.family.after_gelu(twin.model))
    assert not any(isinstance(m, nn.GELU) for m in net.model.modules())


def test_models_without_such_an_mlp_are_refused() -> None:
    with pytest.raises(Unsupported, match="no MLP of two linear layers with a GELU"):
        mlps_of(prepare(mini_mobilevit().eval(), BITS))
