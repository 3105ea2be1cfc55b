"""Patch similarity and its entropy against naive loops, numerical integration and autograd."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vitptq.methods.core.datafree.similarity import BANDWIDTH, LIVE, LOG_FLOOR, Entropy, entropy, grid_of, integral


def outputs(images: int = 2, windows: int = 1, tokens: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(images * windows, 3, tokens, 5, generator=generator, dtype=torch.float64)


def naive_similarities(product: Tensor, images: int) -> list[list[float]]:
    """Return by image the cosines of all pairs of patches in each window, one pair after the other."""
    found: list[list[float]] = [[] for _ in range(images)]
    windows = len(product) // images
    for w, heads in enumerate(product):
        patches = [sum(head[token] for head in heads) / len(heads) for token in range(1, heads.shape[1])]
        for a in patches:
            for b in patches:
                cosine = sum(x * y for x, y in zip(a, b, strict=True)) / (a.norm() * b.norm())
                found[w // windows].append(float(cosine))
    return found


def naive_density(values: list[float], t: float) -> float:
    kernels = [math.exp(-((t - v) ** 2) / (2 * BANDWIDTH**2)) for v in values]
    return sum(kernels) / (len(values) * BANDWIDTH * math.sqrt(2 * math.pi))


def naive_entropy(product: Tensor, images: int, points: int) -> float:
    similarities = naive_similarities(product, images)
    everything = [value for values in similarities for value in values]
    grid = np.linspace(min(everything), max(everything), points)
    total = 0.0
    for values in similarities:
        p = np.array([naive_density(values, t) for t in grid]) + LOG_FLOOR
        total += float(np.trapezoid(-p * np.log(p), grid))
    return total / images


@pytest.mark.parametrize("windows", [1, 3])
def test_entropy_equals_a_naive_loop(windows: int) -> None:
    product = outputs(windows=windows)
    assert Entropy(10)(product, 2).item() == pytest.approx(naive_entropy(product, 2, 10), rel=1e-9)


@pytest.mark.parametrize("pairs", [0, 7, 15, 27, 28, 60, 84, 170, 10**4])
def test_parts_of_any_size_give_the_value_and_gradient_of_plain_autograd(pairs: int) -> None:
    """From single rows over some rows, a window, some windows, an image and some images to all of them."""
    torch.manual_seed(2)
    directions = torch.nn.functional.normalize(torch.randn(3, 3, 7, 4, dtype=torch.float64), dim=-1)
    grid = torch.linspace(-1, 1, 50, dtype=torch.float64)

    def plain(u: Tensor) -> Tensor:
        similarity = (u @ u.transpose(-2, -1)).flatten(1)  # (B, M)
        kernels = torch.exp(-((grid[:, None] - similarity[:, None]) ** 2) / (2 * BANDWIDTH**2))
        return integral(kernels.mean(-1) / (BANDWIDTH * math.sqrt(2 * math.pi)), grid)

    first, second = (directions.clone().requires_grad_() for _ in range(2))
    expected, found = plain(first), entropy(second, grid, pairs * (len(grid) + LIVE))
    torch.testing.assert_close(found, expected)
    (3 * expected).backward()
    (3 * found).backward()
    torch.testing.assert_close(second.grad, first.grad)
    assert first.grad is not None and first.grad.abs().max() > 0


@pytest.mark.parametrize("budget", [2_000, 20_000, 100_000])
def test_what_is_held_at_once_stays_within_the_budget(budget: int) -> None:
    """Counted in numbers, without the patches' directions and their gradients, which grow with N and not N^2."""
    directions = torch.nn.functional.normalize(torch.randn(4, 3, 40, 2), dim=-1).requires_grad_()
    with Held() as held:
        entropy(directions, grid_of(directions.detach(), 10, budget), budget).backward()
    assert budget / 4 < held.most < budget + 12 * directions.numel()


class Held(TorchDispatchMode):
    """Counts the numbers in tensors that were made inside and are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.seen:
                self._hold(tensor.untyped_storage())
        return result

    def _hold(self, storage: Any) -> None:
        size = storage.nbytes() // 4
        self.seen.add(storage._cdata)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._release, storage._cdata, size)

    def _release(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def test_dense_grid_gives_the_integral_and_ten_points_do_not() -> None:
    """Compare with adaptive integration of -p ln p of the same kernel density, where similarities spread."""
    torch.manual_seed(0)
    angles = torch.rand(40, dtype=torch.float64) * math.pi / 2
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1)[None, None]
    similarity = (directions @ directions.transpose(-2, -1)).flatten().numpy()
    low, high = similarity.min(), similarity.max()

    def integrand(t: float) -> float:
        p = np.exp(-((t - similarity) ** 2) / (2 * BANDWIDTH**2)).mean() / (BANDWIDTH * math.sqrt(2 * math.pi))
        return float(-(p + LOG_FLOOR) * math.log(p + LOG_FLOOR))

    expected, _ = integrate.quad(integrand, low, high, limit=500)
    errors = {}
    for points in (10, 100, 1000):
        grid = torch.linspace(low, high, points, dtype=torch.float64)
        errors[points] = abs(entropy(directions, grid, 10**6).item() - expected)
    assert errors[1000] < 1e-3
    assert errors[100] < 0.02 < errors[10]


def test_values_of_the_specified_table() -> None:
    """One narrow normal density, N(0.3, 0.03): its entropy is that of N(0, 0.03^2 + h^2) whatever the grid."""
    sigma = math.hypot(0.03, BANDWIDTH)
    expected = 0.5 * math.log(2 * math.pi * math.e * sigma**2)
    samples = 0.3 + 0.03 * torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(4000) + 0.5) / 4000).double()
    for points in (10, 100):
        grid = torch.linspace(samples.min().item(), samples.max().item(), points, dtype=torch.float64)
        kernels = torch.exp(-((grid[:, None] - samples) ** 2) / (2 * BANDWIDTH**2)).mean(-1)
        p = kernels[None] / (BANDWIDTH * math.sqrt(2 * math.pi))
        assert integral(p, grid).item() == pytest.approx(expected, abs=0.03)


def test_equal_patches_have_less_entropy_than_different_ones() -> None:
    alike = torch.ones(2, 1, 17, 8) + 0.01 * outputs(tokens=17)[:, :1, :, :1].float()
    different = torch.randn(2, 1, 17, 8, generator=torch.Generator().manual_seed(0))
    assert Entropy(100)(different, 2) > Entropy(100)(alike, 2)
