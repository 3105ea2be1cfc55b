"""NoisyQuant: noise in front of a grid, and out of the bias."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.quantizers.noisy import Noisy, symmetric
from vitptq.methods.noisyquant import NoisyQuant, clipped, least_error_noise, output_error, random_vector, take_away

FEW = NoisyQuant(clips=20, means=10, shares=10, tokens=64)


def one_sided() -> tuple[Tensor, Tensor]:
    """Return inputs (rows, inputs), close together in each channel, and a weight (outputs, inputs)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, generator=generator).exp() + 0.05 * torch.randn(200, 12, generator=generator)
    return x, torch.randn(7, 12, generator=generator)


def test_bias_takes_the_noise_away_behind_the_product() -> None:
    x, weight = one_sided()
    noise = torch.linspace(-0.2, 0.3, 12)
    base = symmetric(4, torch.tensor(0.3))
    layer = Linear(nn.Linear(12, 7), BitSpec(4, 4))
    layer.weight, bias = nn.Parameter(weight), layer.bias.detach().clone()
    take_away(layer, weight @ noise)
    folded = nn.functional.linear(Noisy(base, noise)(x), layer.weight, layer.bias)
    torch.testing.assert_close(folded, nn.functional.linear(base(x + noise) - noise, weight, bias), rtol=0, atol=1e-5)


def test_layer_without_a_bias_gets_one() -> None:
    layer = Linear(nn.Linear(12, 7, bias=False), BitSpec(4, 4))
    take_away(layer, torch.arange(7.0))
    assert torch.equal(layer.bias, -torch.arange(7.0))


def test_no_search_makes_the_output_error_grow() -> None:
    x, weight = one_sided()
    full = symmetric(4, x.abs().amax() / 7)
    base = clipped(x, weight, 4, 100)
    errors = [output_error(full(x) - x, weight), output_error(base(x) - x, weight)]
    zero, step = torch.zeros(()), base.scale[0]
    mean = least_error_noise(x, weight, base, [step * k / 10 for k in range(-10, 10)], zero)
    errors.append(output_error(base(x + mean) - mean - x, weight))
    drawn = step * random_vector("uniform", 12, torch.Generator().manual_seed(0))
    noise = least_error_noise(x, weight, base, [mean + drawn * k / 20 for k in range(1, 40)], mean.expand(12))
    errors.append(output_error(base(x + noise) - noise - x, weight))
    assert errors[3] < errors[2] < errors[1] < errors[0]


def test_clipping_is_the_best_of_all_fractions() -> None:
    x, weight = one_sided()
    found = output_error(clipped(x, weight, 3, 40)(x) - x, weight)
    others = [output_error(symmetric(3, x.abs().amax() * i / 40 / 3)(x) - x, weight) for i in range(1, 41)]
    assert found <= min(others) * (1 + 1e-5)


def test_noise_is_uniform_or_as_released() -> None:
    uniform = random_vector("uniform", 20_000, torch.Generator().manual_seed(0))
    gaussian = random_vector("gaussian", 20_000, torch.Generator().manual_seed(0))
    assert uniform.abs().max() <= 1
    assert abs(uniform.mean()) < 0.02
    assert abs(gaussian.mean() + 1) < 0.05
    assert abs(gaussian.std() - 2) < 0.05


def test_control_has_one_shift_per_layer_and_the_method_a_vector() -> None:
    model = two_block_models()["ViT"]
    control = replace(FEW, noise="none")
    for method, constant in ((control, True), (FEW, False)):
        quantised = method.quantize(model, RandomImages(), BitSpec(4, 4))
        vectors = [module.noise for module in quantised.modules() if isinstance(module, Noisy)]
        assert len(vectors) == 9  # four linear layers in each of two blocks, and the head
        assert all(torch.equal(v, v[:1].expand_as(v)) for v in vectors) == constant


def test_scope_of_the_released_code_leaves_products_patches_and_head_in_float() -> None:
    quantised = replace(FEW, scope="block linears").quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
    assert sum(isinstance(module, Noisy) for module in quantised.modules()) == 8
    head = quantised.get_submodule("head")
    assert isinstance(head, Linear)
    assert head.input_operand.quantizer is None
    assert head.weight_operand.quantizer is None
