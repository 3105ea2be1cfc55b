"""Output errors of grids against what the quantizers really put out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Linear, MatMul
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.grid_errors import input_error, side_error, uniform, weight_error
from vitptq.methods.core.search.recording import Inputs

W4A4 = BitSpec(4, 4)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def linear(inputs: int, outputs: int, bits: BitSpec = W4A4) -> Linear:
    return Linear(nn.Linear(inputs, outputs).requires_grad_(False), bits)


def grids(rows: int, count: int, bits: int = 4) -> tuple[Tensor, Tensor]:
    return torch.rand(rows, count) * 0.2 + 0.05, torch.randint(0, 2**bits, (rows, count)).float()


@pytest.mark.parametrize("outputs", [3, 11])
def test_errors_of_a_linear_layer_are_those_of_its_output(outputs: int) -> None:
    layer, rows = linear(6, outputs), torch.randn(50, 6)
    target = layer(rows)
    layer.input_operand.on = layer.weight_operand.on = True
    layer.input_operand.quantizer = Uniform(4, torch.tensor(0.3), torch.tensor(7.0))
    scale, zero = grids(outputs, 4)
    found = weight_error(layer, rows)(scale, zero)
    for k in range(4):
        layer.weight_operand.quantizer = Uniform(4, scale[:, k], zero[:, k], axis=0)
        torch.testing.assert_close(found[:, k], (layer(rows) - target).square().mean(0))

    scale, zero = grids(1, 4)
    found = input_error(layer, rows, uniform(4))(scale, zero)
    for k in range(4):
        layer.input_operand.quantizer = Uniform(4, scale[:, k], zero[:, k])
        torch.testing.assert_close(found[0, k], (layer(rows) - target).square().sum(1).mean())


@pytest.mark.parametrize("transpose", [True, False])
@pytest.mark.parametrize("left", [True, False])
def test_errors_of_a_product_are_those_of_its_output(transpose: bool, left: bool) -> None:
    product = MatMul("query", "key", W4A4, transpose=transpose)
    calls = [
        (torch.randn(n, 2, 5, 4), torch.randn(n, 2, 5, 4) if transpose else torch.randn(n, 2, 4, 3)) for n in (3, 2)
    ]
    inputs = Inputs(*zip(*calls, strict=True))
    targets = [product(*call) for call in calls]
    product.left_operand.on = product.right_operand.on = True
    varied, other = (product.left_operand, product.right_operand)[:: 1 if left else -1]
    other.quantizer = Uniform(4, torch.tensor(0.4), torch.tensor(8.0))
    scale, zero = grids(2, 3)
    found = side_error(product, inputs, left=left)(scale, zero)
    for k in range(3):
        varied.quantizer = Uniform(4, scale[:, k], zero[:, k], axis=1)
        errors = [(product(*call) - t).square().mean((2, 3)).sum(0) for call, t in zip(calls, targets, strict=True)]
        torch.testing.assert_close(found[:, k], sum(errors) / 5)
