"""Speed of what people wait for; `python3 start.py benchmark`. Results and targets: docs/performance.md."""

from __future__ import annotations

import gc
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Method
from vitptq.bench.contracts.quantizer import kept_weights
from vitptq.bench.results import suites
from vitptq.bench.results.store import Store
from vitptq.bench.run.audit import audit
from vitptq.bench.run.cell_run import Run, run_cell
from vitptq.methods.core.ranges.estimation import least_error
from vitptq.methods.core.ranges.shrunk import shrunk

CPU = torch.device("cpu")
BATCH = 250
W4A4 = BitSpec(4, 4)


@cache
def mini() -> Any:
    """Return the embedded classification task with its data generated."""
    task = registry.task("imagenet", "mini")
    task.prepare()
    return task


@cache
def float_model(name: str) -> nn.Module:
    """Return a float model."""
    model: nn.Module = mini().load(name, CPU)
    return model


@cache
def quantised(name: str, method: str) -> nn.Module:
    """Return a model at W4A4."""
    calibration = mini().calibration(name, 32, 0, CPU)
    adapter: Method = registry.method(method)()
    return adapter.quantize(float_model(name), calibration, W4A4)


@pytest.mark.parametrize("method", ["float", "minmax", "omse", "repq-vit"])
@pytest.mark.parametrize("model", ["mini_vit", "mini_swin"])
def bench_evaluation_of_a_batch(benchmark: Any, model: str, method: str) -> None:
    """Compare with the float row of the same model: uniform quantizers may take 1.5 times as long."""
    net = float_model(model) if method == "float" else quantised(model, method)
    images = torch.randn(BATCH, 3, 32, 32)
    benchmark.group = f"forward pass of {model}, {BATCH} images"
    with torch.no_grad(), kept_weights():
        benchmark.pedantic(net, args=(images,), rounds=10, warmup_rounds=3)


@pytest.mark.parametrize("method", ["minmax", "percentile", "omse", "repq-vit"])
def bench_quantisation_with_32_images(benchmark: Any, method: str) -> None:
    """RepQ-ViT must take less than the float evaluation of 3,000 images (next benchmark)."""
    calibration = mini().calibration("mini_vit", 32, 0, CPU)
    adapter: Method = registry.method(method)()
    benchmark.group = "mini_vit: quantisation against float evaluation"
    benchmark.pedantic(adapter.quantize, args=(float_model("mini_vit"), calibration, W4A4), rounds=5, warmup_rounds=1)


def bench_float_evaluation_of_3000_images(benchmark: Any) -> None:
    """The yardstick of the benchmark above; images are decoded already."""
    benchmark.group = "mini_vit: quantisation against float evaluation"
    arguments = (float_model("mini_vit"), "mini_vit", CPU, lambda done, total: None)
    benchmark.pedantic(mini().evaluate, args=arguments, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("model", ["mini_vit", "mini_swin"])
def bench_audit(benchmark: Any, model: str) -> None:
    """The largest part of the harness's own work."""
    benchmark.group = "audit"
    net, example = quantised(model, "minmax"), mini().example(model, CPU)
    benchmark.pedantic(audit, args=(net, W4A4, example, mini().forward), rounds=5, warmup_rounds=1)


def bench_harness_overhead_of_a_cell(benchmark: Any, tmp_path: Path) -> None:
    """A whole cell; extra_info holds the share that is neither quantising nor evaluating (target: under 2 %)."""
    group = suites.Group(task="imagenet", edition="mini", models=["mini_vit"], methods=["minmax"], bits=["W4A4"])
    cells = suites.expand(group)
    shares = []

    def once() -> None:
        run = Run(Store(tmp_path / str(time.monotonic_ns())), CPU, lambda step, done, total: None)
        run_cell(cells[0], run)
        record = run_cell(cells[-1], run)
        assert record is not None
        assert record.costs is not None
        costs = record.costs
        shares.append(1 - (costs.quantise_s + costs.evaluate_s) / costs.total_s)

    gc.freeze()  # as a worker does when it starts
    once()  # decodes the images and fills the caches that a worker keeps
    shares.clear()
    benchmark.group = "float cell and MinMax cell of mini_vit"
    benchmark.pedantic(once, rounds=3)
    benchmark.extra_info["overhead_percent"] = [round(100 * share, 2) for share in shares]


@pytest.mark.parametrize("way", ["sorted values", "a pass per candidate"])
def bench_search_over_90_candidates(benchmark: Any, way: str) -> None:
    """The search of OMSE on a tensor of the size that ViT-S has behind a GELU with 8 images."""
    x = torch.randn(1, 8 * 197 * 1536)
    lows, highs = shrunk(x.amin(1), x.amax(1))
    benchmark.group = "least squared error over 90 ranges, 2.4 million values, 4 bits"
    search = least_error if way == "sorted values" else _loop
    benchmark.pedantic(search, args=(x, lows, highs, 4), rounds=3, warmup_rounds=1)


def _loop(x: torch.Tensor, lows: torch.Tensor, highs: torch.Tensor, bits: int) -> int:
    from vitptq.methods.core.ranges.estimation import uniform

    candidates = zip(lows[0], highs[0], strict=True)
    errors = [(uniform(low[None], high[None], bits)(x) - x).square().mean() for low, high in candidates]
    return int(torch.stack(errors).argmin())
