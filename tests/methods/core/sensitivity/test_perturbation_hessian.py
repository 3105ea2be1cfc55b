"""The published Hessian, why it is rounding noise, and what guards against it being nothing at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.sensitivity.fisher import fisher_mc
from vitptq.methods.core.sensitivity.perturbation_hessian import average_perturbation_hessian, relative

UNITS = {
    "ViT": ["patch_embed", "blocks.0", "blocks.0.mlp", "blocks.1", "blocks.1.mlp"],
    "Swin": ["layers.0.blocks.0", "layers.0.blocks.0.mlp", "layers.1.downsample", "layers.1.blocks.0"],
}
NULL = [(name, unit) for name, units in UNITS.items() for unit in units]


class Doubles(RandomImages):
    def batches(self):
        for batch in super().batches():
            yield batch.double()


def moved(model: nn.Module, unit: str, by: float) -> Tensor:
    handle = model.get_submodule(unit).register_forward_hook(lambda module, args, out: out + by)
    try:
        (images,) = Doubles().batches()
        return model(images).detach()
    finally:
        handle.remove()


@pytest.mark.parametrize(("name", "unit"), NULL)
def test_a_constant_on_all_channels_reaches_no_prediction(name: str, unit: str) -> None:
    model = two_block_models()[name].double()
    assert (moved(model, unit, 1e-3) - moved(model, unit, 0.0)).abs().max() < 1e-10


def layer_scaled() -> nn.Module:
    torch.manual_seed(3)
    size: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = VisionTransformer(**size, num_classes=10, init_values=0.1).double().eval()
    for module in model.modules():
        if isinstance(getattr(module, "gamma", None), nn.Parameter):
            nn.init.uniform_(module.gamma, 0.1, 1)
    return model


def test_it_does_where_a_branch_is_scaled_by_channel() -> None:
    model = layer_scaled()
    assert (moved(model, "blocks.0.mlp", 1e-3) - moved(model, "blocks.0.mlp", 0.0)).abs().max() > 1e-7


@pytest.mark.parametrize("name", UNITS)
def test_in_float64_the_published_hessian_is_orders_below_the_diagonal(name: str) -> None:
    net = prepare(two_block_models()[name].double(), FLOAT)
    units = UNITS[name][1:3]
    maps = average_perturbation_hessian(net, Doubles(), units, temperature=1.0)
    fisher = fisher_mc(net, Doubles(), units, temperature=1.0, generator=torch.Generator().manual_seed(0))
    for unit in units:
        assert maps[unit].shape == fisher[unit].shape
        # over 2 epsilon it would be the row sums of the Hessian, were they not 0
        assert maps[unit].mean() / 2e-6 < 1e-4 * fisher[unit].mean()


def test_where_constants_matter_it_is_the_row_sums_of_the_hessian() -> None:
    net = prepare(layer_scaled(), FLOAT)
    (images,) = Doubles().batches()
    (h,) = average_perturbation_hessian(net, Doubles(), ["blocks.1.mlp"], temperature=1.0, epsilon=1e-4).values()
    expected = net.model(images).detach().softmax(-1)

    def gradient(shift: Tensor) -> Tensor:
        def leave(module: nn.Module, args: Any, out: Tensor) -> Tensor:
            return out + shift

        handle = net.model.blocks[1].mlp.register_forward_hook(leave)
        logits = net.model(images)
        handle.remove()
        loss = nn.functional.kl_div(logits.log_softmax(-1), expected, reduction="sum")
        return torch.autograd.grad(loss, shift, create_graph=True)[0]

    zero = torch.zeros(8, 17, 32, dtype=torch.float64, requires_grad=True)
    (rows,) = torch.autograd.grad(gradient(zero).sum(), zero)  # H 1, image by image
    torch.testing.assert_close(h, (2e-4 * rows).abs().mean(0), rtol=1e-3, atol=1e-15)


@pytest.mark.parametrize("name", UNITS)
def test_in_float32_noise_is_left_and_it_repeats(name: str) -> None:
    net = prepare(two_block_models()[name], FLOAT)
    once, again = (average_perturbation_hessian(net, RandomImages(), UNITS[name][:2]) for _ in range(2))
    for unit, h in once.items():
        assert h.mean() > 0 and h.isfinite().all()
        assert torch.equal(h, again[unit])


def test_no_hessian_is_told_apart_from_a_small_one() -> None:
    assert relative(torch.zeros(3, 2)) is None
    assert relative(torch.tensor([1.0, float("nan")])) is None
    little = relative(torch.tensor([1e-20, 3e-20]))
    assert little is not None
    torch.testing.assert_close(little, torch.tensor([0.5, 1.5]))
