"""Evaluation through torch.compile: one graph, the same outputs, and a model that is left as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from tests.bench.tiny_task import TinyCalibration, images
from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.quantizer import kept_weights
from vitptq.bench.errors import Missing
from vitptq.bench.run import compiled as module
from vitptq.bench.run.adapter_check import two_block_models
from vitptq.bench.run.compiled import compiled, refuse_without_compiler

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    counters.clear()
    yield
    torch.compiler.reset()


def quantised(method: str) -> nn.Module:
    calibration = TinyCalibration(8, 0, CPU)
    return registry.method(method)().quantize(two_block_models()["ViT"], calibration, BitSpec(4, 4)).eval()


def evaluated(model: nn.Module, batches: list[Tensor], backend: str, *, asked: bool = True) -> list[Tensor]:
    with torch.no_grad(), kept_weights(), compiled(model, asked=asked, backend=backend):
        return [model(batch) for batch in batches]


@pytest.mark.parametrize("method", ["minmax", "repq-vit"])
def test_quantised_model_is_traced_in_one_piece_and_puts_out_the_same(method: str) -> None:
    model, batches = quantised(method), [images(seed, 4) for seed in range(3)]
    plain = evaluated(model, batches, "eager", asked=False)
    assert not counters["stats"]
    traced = evaluated(model, batches, "eager")
    assert counters["stats"]["unique_graphs"] >= 1
    assert not counters["graph_break"]
    assert all(torch.equal(one, other) for one, other in zip(plain, traced, strict=True))


def test_model_is_left_as_it_was() -> None:
    model = quantised("minmax")
    before = {name: dict(vars(part)) for name, part in model.named_modules()}
    evaluated(model, [images(0, 4)] * 2, "eager")
    assert [name for name, part in model.named_modules() if vars(part).keys() != before[name].keys()] == []


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_model_differs_by_rounding_alone() -> None:
    model, batches = quantised("minmax"), [images(seed, 8) for seed in range(3)]
    plain, fast = (torch.cat(evaluated(model, batches, "inductor", asked=asked)) for asked in (False, True))
    assert torch.equal(plain.argmax(1), fast.argmax(1))
    assert (plain - fast).abs().max() < 1e-4 * plain.abs().max()


def test_without_a_compiler_the_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(Missing, match="--compile needs a C"):
        refuse_without_compiler(CPU)
