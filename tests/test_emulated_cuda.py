"""The emulated GPU refuses what CUDA refuses, allows what it allows, and counts what makes the host wait."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.emulated_cuda import CPU, GPU, EmulatedCuda, MixedDevices, emulated_cuda


@pytest.fixture
def emulation() -> Iterator[EmulatedCuda]:
    with emulated_cuda() as emulation:
        yield emulation


def on(device: torch.device, *shape: int) -> Tensor:
    return torch.ones(shape, device=device)


REFUSED: dict[str, Callable[[], Any]] = {
    "sum": lambda: on(GPU, 3) + on(CPU, 3),
    "sum of one value": lambda: on(GPU, 3) + on(CPU, 1),
    "number of the GPU": lambda: on(CPU, 3) * on(GPU),
    "stack with a number": lambda: torch.stack([on(GPU), on(CPU)]),
    "product": lambda: on(GPU, 2, 3) @ on(CPU, 3, 2),
    "linear layer": lambda: nn.Linear(3, 2)(on(GPU, 3)),
    "in place": lambda: on(CPU).add_(on(GPU)),
    "indices of the GPU": lambda: on(CPU, 3)[on(GPU, 3).long()],
    "assigned by indices": lambda: on(GPU, 3).index_put_((torch.tensor([0, 1]),), on(CPU, 2)),
    "selected": lambda: on(GPU, 3).index_select(0, torch.tensor([0])),
    "generator": lambda: torch.rand(3, device=GPU, generator=torch.Generator()),
    "generator of the GPU": lambda: torch.rand(3, generator=torch.Generator(GPU)),
}
ALLOWED: dict[str, Callable[[], Tensor]] = {
    "number": lambda: on(GPU, 3) * on(CPU),
    "number first": lambda: on(CPU) / on(GPU, 3),
    "two numbers": lambda: on(CPU) + on(GPU),
    "choice": lambda: torch.where(on(GPU, 3) > 0, on(GPU, 3), torch.tensor(2.0)),
    "indices of the CPU": lambda: on(GPU, 3)[torch.tensor([0, 2])],
    "quantile": lambda: torch.quantile(on(GPU, 9), 0.3),
    "tensor like it": lambda: on(GPU, 3).new_tensor([1.0]) + on(GPU, 3).new_zeros(1) + torch.zeros_like(on(GPU, 1)),
    "copy": lambda: copy.deepcopy(on(GPU, 3)),
    "layer": lambda: nn.Linear(3, 2).to(GPU)(on(GPU, 3)),
    "generator": lambda: torch.rand(3, device=GPU, generator=torch.Generator(GPU).manual_seed(1)),
    "tensor of a list": lambda: torch.tensor([1.0, 2.0], device=GPU),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cuda_refuses_is_refused(what: str, emulation: EmulatedCuda) -> None:
    with pytest.raises(MixedDevices):
        REFUSED[what]()


@pytest.mark.parametrize("what", ALLOWED)
def test_what_cuda_allows_is_on_the_gpu(what: str, emulation: EmulatedCuda) -> None:
    assert ALLOWED[what]().device == GPU


def test_numpy_takes_no_tensor_of_the_gpu(emulation: EmulatedCuda) -> None:
    with pytest.raises(TypeError, match="Tensor.cpu"):
        on(GPU, 3).numpy()
    assert on(GPU, 3).cpu().numpy().sum() == 3


def test_gradients_and_optimisers_stay_on_the_gpu(emulation: EmulatedCuda) -> None:
    layer = nn.Linear(3, 2).to(GPU)
    layer(on(GPU, 3)).sum().backward()
    torch.optim.Adam(layer.parameters(), fused=True).step()
    assert layer.weight.grad is not None and {layer.weight.device, layer.weight.grad.device} == {GPU}


WAITS: dict[str, Callable[[], Any]] = {
    "item": lambda: on(GPU).item(),
    "float": lambda: float(on(GPU)),
    "bool": lambda: bool(on(GPU) > 0),
    "list": lambda: on(GPU, 2).tolist(),
    "copy to the host": lambda: on(GPU, 2).cpu(),
    "places": lambda: on(GPU, 2).nonzero(),
    "by a mask": lambda: on(GPU, 2)[on(GPU, 2) > 0],
    "equal": lambda: torch.equal(on(GPU, 2), on(GPU, 2)),
}


@pytest.mark.parametrize("what", WAITS)
def test_what_makes_the_host_wait_is_counted(what: str, emulation: EmulatedCuda) -> None:
    WAITS[what]()
    assert sum(emulation.waits.values()) == 1
    assert all(line.startswith("tests/test_emulated_cuda.py:") for line in emulation.waits)


def test_a_plain_step_makes_the_host_wait_for_nothing(emulation: EmulatedCuda) -> None:
    x = on(GPU, 3)
    x.mul_(2).clamp_(0, 1)[1:].sum().sqrt()
    assert not emulation.waits and not emulation.uploads


def test_nothing_is_left_behind() -> None:
    with emulated_cuda():
        pass
    assert not torch.cuda.is_available() or torch.cuda.get_device_name() != "emulated GPU"
    assert "device" not in vars(torch.Tensor) and torch.zeros(1).device == CPU
