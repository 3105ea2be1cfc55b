"""QEP: the correction."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.layerwise.moments import Moments
from vitptq.methods.gptq import GPTQ
from vitptq.methods.qep import QEP, corrected_weight


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT, X = drawn(0, 1, 4, 6), drawn(1, 6, 30)
Y = X + 0.3 * drawn(2, 6, 30)


def moments(x: Tensor, y: Tensor) -> Moments:
    return Moments((y @ y.T)[None], ((x - y) @ y.T)[None], (x @ x.T)[None])


def test_without_alpha_the_weight_stays() -> None:
    assert torch.equal(corrected_weight(WEIGHT, moments(X, Y), 0.0, 1.0), WEIGHT)


def test_equal_inputs_need_no_correction() -> None:
    assert torch.equal(corrected_weight(WEIGHT, moments(X, X), 1.0, 1.0), WEIGHT)


def test_whole_correction_is_the_ridge_regression() -> None:
    found = corrected_weight(WEIGHT, moments(X, Y), 1.0, 0.5)[0] - WEIGHT[0]
    gram = Y @ Y.T
    ridge = gram + 0.5 * gram.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    expected = WEIGHT[0] @ (X - Y) @ Y.T @ torch.linalg.inv(ridge)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_error_on_the_calibration_set_falls_with_alpha(damping: float) -> None:
    errors = [
        (WEIGHT[0] @ X - corrected_weight(WEIGHT, moments(X, Y), alpha, damping)[0] @ Y).square().sum().item()
        for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_without_alpha_it_is_the_method_behind_it() -> None:
    model = two_block_models()["ViT"]
    bits = BitSpec(3, 32)
    one, other = (m.quantize(model, RandomImages(), bits).state_dict() for m in (QEP(alpha=0), GPTQ()))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_second_layer_of_an_mlp_is_corrected_only_where_asked() -> None:
    model = two_block_models()["ViT"]
    found = [
        QEP(alpha=1.0, rounding="rtn", correct_behind_gelu=also).quantize(model, RandomImages(), BitSpec(2, 32))
        for also in (False, True)
    ]
    fc1, fc2 = ([net.state_dict()[f"blocks.0.mlp.{name}.weight"] for net in found] for name in ("fc1", "fc2"))
    assert torch.equal(*fc1)
    assert not torch.equal(*fc2)
