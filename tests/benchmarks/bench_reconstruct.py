"""Speed of block reconstruction; `python3 start.py benchmark -- -k reconstruct`. Results: docs/performance.md."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from statistics import median
from typing import Any

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.methods.core.reconstruct import Settings, Unit, reconstruct, squared_error
from vitptq.methods.core.reconstruct.trainer import Trainer

DEVICE = torch.device(os.environ.get("VITPTQ_BENCHMARK_DEVICE", "cpu"))
BITS = BitSpec(4, 4)
MODELS: dict[str, tuple[Callable[[], nn.Module], str, int, int]] = {
    # model, block, side of the images, images in a mini-batch
    "mini_vit": (
        lambda: VisionTransformer(img_size=32, patch_size=4, embed_dim=96, depth=2, num_heads=3, num_classes=10),
        "blocks.0", 32, 32,
    ),
    "mini_swin": (
        lambda: SwinTransformer(
            img_size=32, patch_size=2, embed_dim=48, depths=(2, 2), num_heads=(3, 6), window_size=4, num_classes=10
        ),
        "layers.0.blocks.1", 32, 32,
    ),
    "deit_small": (
        lambda: VisionTransformer(embed_dim=384, depth=2, num_heads=6),
        "blocks.0", 224, 32 if DEVICE.type == "cuda" else 4,
    ),
}  # fmt: skip
WAYS = {
    "qdrop": Settings(),
    "adaround": Settings(scales=False, input="quantised", quantised_probability=1.0),
    "ste": Settings(
        weights="ste", weight_rate=4e-5, biases=True, scales=False, input="quantised", quantised_probability=1.0
    ),
}


class Images(RandomImages):
    """Random images of a side, two mini-batches."""

    def __init__(self, side: int, images: int) -> None:
        super().__init__()
        self.device = DEVICE
        self.side, self.images = side, images

    def batches(self) -> Iterator[Tensor]:
        """Yield them in two batches."""
        generator = torch.Generator().manual_seed(7)
        for _ in range(2):
            yield torch.randn(self.images, 3, self.side, self.side, generator=generator).to(DEVICE)


class Timed:
    """A step that keeps how long it took: processor time, which other processes disturb less, or a GPU's wall clock."""

    def __init__(self, step: Callable[[], object]) -> None:
        self.step = step
        self.seconds: list[float] = []

    def __call__(self) -> None:
        """Take the step."""
        clock = time.process_time if DEVICE.type == "cpu" else time.perf_counter
        started = clock()
        self.step()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(clock() - started)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", MODELS)
def bench_reconstruction_step(benchmark: Any, model: str, way: str) -> None:
    """One step with everything in it: drawing and mixing the inputs, the loss, the rounding term, the optimiser.

    In turns with the float block of timm, forward and backward with gradients of all its parameters; extra_info has the
    ratio (target: at most 1.4).
    """
    make, name, side, images = MODELS[model]
    torch.manual_seed(0)
    float_model, calibration = make().eval().to(DEVICE), Images(side, images)
    net, twin = prepare(float_model, BITS), prepare(float_model, BITS)
    observe_weights(net)
    observe_activations(net, calibration, RunningMinMax)
    net.switch(True)
    benchmark.group = f"a step of one block of {model}, {images} images"

    def timed(unit: Unit) -> Any:
        trainer = Trainer(unit, replace(WAYS[way], batch=images), squared_error(unit))
        steps = count(10_000)  # the regulariser is in force
        ours = Timed(lambda: trainer.step(next(steps)))
        block, x = float_model.get_submodule(name), inputs(unit)
        theirs = Timed(lambda: float_step(block, x))
        benchmark.pedantic(ours, setup=theirs, rounds=15, warmup_rounds=3)
        trainer.close()
        benchmark.extra_info["ratio"] = round(median(ours.seconds[3:]) / median(theirs.seconds[3:]), 3)
        benchmark.extra_info["float_ms"] = round(1000 * median(theirs.seconds[3:]), 2)
        return squared_error(unit)

    reconstruct(net, twin, calibration, Settings(iterations=0, batch=images), loss=timed, units=[name])


def inputs(unit: Unit) -> Tensor:
    """Return a mini-batch of the unit's inputs."""
    assert unit.inputs is not None
    return unit.inputs.groups[0][0][: len(unit.inputs.groups[0][0]) // 2].to(DEVICE)


def float_step(block: nn.Module, x: Tensor) -> None:
    """Run the block forward and backward."""
    block.zero_grad()
    block(x).square().sum(-1).mean().backward()
