"""What evaluating and quantising one model takes on a device: images per second, and seconds per method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, DataFree, InputSpec
from vitptq.bench.contracts.quantizer import kept_weights
from vitptq.bench.errors import VitptqError
from vitptq.bench.run import costs
from vitptq.bench.run.arithmetic import evaluated_in
from vitptq.bench.run.cell_run import seed_everything

FLOAT = "forward, float, fp32"
"""The line that all others are compared with."""
WARM_UP_S = 0.5
MEASURED_S = 1.5


@dataclass(frozen=True)
class Timing:
    """One line of the table; `problem` says why there is no figure."""

    what: str
    seconds: float | None
    peak_mib: float | None = None
    problem: str = ""


class RandomBatches(Calibration):
    """Random images on a device, some at a time."""

    def __init__(self, shape: tuple[int, int, int], images: int, batch: int, device: torch.device) -> None:
        self.input = InputSpec(shape, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self.device = device
        self.images = torch.randn(images, *shape, generator=torch.Generator().manual_seed(7))
        self.batch = batch

    def batches(self) -> Iterator[Tensor]:
        """Yield the batches."""
        for part in self.images.split(self.batch):
            yield part.to(self.device)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits."""
        logits: Tensor = model(batch)
        return logits


def quantised(name: str, model: nn.Module, images: RandomBatches, bits: BitSpec, **parameters: Any) -> nn.Module:
    """Return what a method makes of the model."""
    method = registry.method(name).configured(parameters)
    given: Any = DataFree(images.input, images.device, 0) if method.category == "data-free" else images
    seed_everything(0)
    return method.quantize(model, given, bits).eval()


def quantisation(
    methods: Sequence[str], model: nn.Module, images: RandomBatches, bits: BitSpec
) -> Iterator[tuple[Timing, nn.Module | None]]:
    """Yield how long each method takes, with the model that it made."""
    device = images.device
    for name in methods:
        made: nn.Module | None = None

        def work(name: str = name) -> None:
            nonlocal made
            made = quantised(name, model, images, bits)

        yield once(f"quantise {name} {bits}", work, device), made


def once(what: str, work: Callable[[], object], device: torch.device) -> Timing:
    """Return the seconds and the peak memory of one run of `work`."""
    costs.reset_peak_memory(device)
    costs.finish(device)
    started = time.perf_counter()
    try:
        work()
        costs.finish(device)
    except (VitptqError, RuntimeError) as error:
        return Timing(what, None, problem=str(error).splitlines()[0])
    return Timing(what, time.perf_counter() - started, costs.peak_device_mib(device))


@torch.no_grad()
def forward_pass(
    what: str,
    model: nn.Module,
    batch: Tensor,
    *,
    precision: str = "fp32",
    warm_up_s: float = WARM_UP_S,
    measured_s: float = MEASURED_S,
) -> Timing:
    """Return the seconds of one forward pass, the mean over about `measured_s` seconds."""
    device = batch.device
    costs.reset_peak_memory(device)
    try:
        with evaluated_in(precision, model, device), kept_weights():  # type: ignore[arg-type]
            _passes(model, batch, warm_up_s)
            count, seconds = _passes(model, batch, measured_s)
    except Exception as error:  # noqa: BLE001  a compiler raises what it likes, and the other lines matter
        return Timing(what, None, problem=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return Timing(what, seconds / count, costs.peak_device_mib(device))


def _passes(model: nn.Module, batch: Tensor, seconds: float) -> tuple[int, float]:
    """Run the model for about so long; return how often, and how long it took."""
    started = time.perf_counter()
    count, taken = 0, 0.0
    while not count or taken < seconds:
        model(batch)
        count += 1
        costs.finish(batch.device)
        taken = time.perf_counter() - started
    return count, taken
