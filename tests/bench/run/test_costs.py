"""What a cell takes: clocks, memory, size."""

from __future__ import annotations

import time
from contextlib import suppress

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.audit import audit
from vitptq.bench.run.costs import MIB, Stopwatch, model_mib, peak_device_mib, peak_host_mib, reset_peak_memory
from vitptq.methods.core.quantizers.uniform import Uniform

CPU = torch.device("cpu")


def test_steps_of_one_name_are_added_up_also_where_one_fails() -> None:
    watch = Stopwatch()
    with watch("load"):
        time.sleep(0.01)
    with suppress(ValueError), watch("load"):
        time.sleep(0.01)
        raise ValueError("planted")
    assert 0.02 <= watch.seconds["load"] <= watch.total


def test_pause_is_not_in_the_total() -> None:
    watch = Stopwatch()
    with watch.paused():
        time.sleep(0.05)
    assert watch.total < 0.05


def test_peak_of_an_earlier_cell_is_forgotten() -> None:
    block = torch.ones(64 * MIB // 4)  # 64 MiB
    high = peak_host_mib()
    del block
    reset_peak_memory(CPU)
    assert peak_host_mib() < high - 32


def test_cpu_has_no_device_memory() -> None:
    assert peak_device_mib(CPU) is None


def test_quantised_weights_count_at_their_bits_and_the_rest_at_thirty_two() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 8))
            self.bias = nn.Parameter(torch.zeros(5))
            self.left = Uniform(4, torch.tensor(0.2), torch.tensor(8.0))
            self.right = Uniform(4, torch.tensor(0.2), torch.tensor(8.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(self.left(x), self.right(self.weight), self.bias)

    model = nn.Sequential(Layer())
    audited = audit(model, BitSpec(4, 4), torch.randn(1, 8), lambda net, x: net(x))
    assert model_mib(model, audited) * MIB * 8 == 40 * 4 + 5 * 32
