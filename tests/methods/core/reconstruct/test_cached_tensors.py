"""Cached tensors: within their budget, and the same bits wherever they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.emulated_cuda import GPU, emulated_cuda
from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import CPU, RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct import (
    Settings,
    reconstruct,
)
from vitptq.methods.core.reconstruct.cached_tensors import CachedTensors, CacheMemory, CallRows, free_memory
from vitptq.methods.core.reconstruct.least_error_start import calibrated

BITS = BitSpec(3, 3)
FAST = Settings(iterations=4, batch=4, weight_rate=0.05, scale_rate=1e-2, seed=3)


def states(net: PreparedModel) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in net.model.state_dict().items()}


def test_spilled_caches_give_the_same_bits() -> None:
    found = []
    for memory in (2**30, 200_000, 0):
        net, twin = calibrated(two_block_models()["Swin"], RandomImages(), BITS)
        reconstruct(net, twin, RandomImages(), replace(FAST, memory=memory))
        found.append(states(net))
    assert all(torch.equal(x, other[name]) for other in found[1:] for name, x in found[0].items())


def test_memory_stays_within_its_budget_and_gets_it_back() -> None:
    memory = CacheMemory(1000, CPU)
    samples = CachedTensors(memory, [10])
    samples.write(CallRows(0, 0, 10, 0, 0), [torch.ones(10, 20), torch.ones(10, 10)])
    assert memory.spilled == 400
    samples.release()
    assert memory.empty((10, 20), torch.float32).numel() == 200 and memory.spilled == 400


def test_what_torch_holds_in_reserve_counts_as_free_and_decides_where_a_cache_is() -> None:
    with emulated_cuda(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 10_000))
        patch.setattr(torch.cuda, "memory_reserved", lambda device: 5000)
        patch.setattr(torch.cuda, "memory_allocated", lambda device: 2000)
        assert free_memory(GPU) == 4000
        memory = CacheMemory(10**6, GPU)
        assert memory.empty((249,), torch.float32).device == GPU  # 996 bytes, four times that is less than 4000
        assert memory.empty((251,), torch.float32).device == CPU
