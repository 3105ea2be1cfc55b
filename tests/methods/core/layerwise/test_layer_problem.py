"""What a rule may ask of a layer."""

from __future__ import annotations

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.layerwise.layer_problem import problem_of
from vitptq.methods.core.layerwise.moments import NOTHING
from vitptq.methods.core.model.operands import ConvTranspose2d, Linear
from vitptq.methods.core.ranges.estimation import min_max


def test_grid_covers_the_range_that_is_asked_for() -> None:
    layer = Linear(nn.Linear(6, 4), BitSpec(3, 32))
    problem = problem_of(layer, NOTHING)
    quantizer = problem.quantizer(lambda rows, bits: min_max(rows * 0.5))
    torch.testing.assert_close(quantizer.scale * 2, problem.quantizer(lambda rows, bits: min_max(rows)).scale)
    assert quantizer.bits == 3


def test_channels_of_a_transposed_convolution_have_one_grid_each() -> None:
    layer = ConvTranspose2d(nn.ConvTranspose2d(6, 4, 2, stride=2), BitSpec(3, 32))
    problem = problem_of(layer, NOTHING)
    quantizer = problem.quantizer(lambda rows, bits: min_max(rows))
    assert quantizer.scale.shape == (4,)
    assert problem.grid(quantizer).scale.shape == (1, 16, 1)


def test_only_the_second_layer_of_an_mlp_is_behind_a_gelu() -> None:
    first, second = (problem_of(Linear(nn.Linear(6, 4), BitSpec(3, 32), role), NOTHING) for role in ("input", "gelu"))
    assert (first.behind_gelu, second.behind_gelu) == (False, True)
