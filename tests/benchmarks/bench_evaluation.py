"""Evaluation at the papers' sizes: quantised against float, and against decoding; `python3 start.py benchmark`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.reliability.real_formats import CLASSES, MadeUpImageNet, write_trees
from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.contracts.quantizer import kept_weights
from vitptq.tasks import image_cache, kept_images
from vitptq.tasks.calibration import TensorCalibration
from vitptq.tasks.classification import inference
from vitptq.tasks.classification.imagenet import ImageNet

CPU = torch.device("cpu")
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageNet]:
    """Return the full edition's code on 16 photographs of 375 x 500 pixels, nothing decoded."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITPTQ_DATA", str(folder))
        patch.setenv("VITPTQ_CACHE", str(folder / "cache"))
        write_trees(folder, only="imagenet")
        yield MadeUpImageNet()


@cache
def evaluated(architecture: str, method: str) -> nn.Module:
    """Return a model with random weights, float or at W4A4."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(architecture).eval()
    if method == "float":
        return model
    images = torch.randn(2, 3, 224, 224)
    calibration = TensorCalibration((images,), InputSpec((3, 224, 224), HALF, HALF), CPU, "", inference.logits)
    return registry.method(method)().quantize(model, calibration, BitSpec(4, 4))


@pytest.mark.parametrize("method", ["float", "minmax", "repq-vit"])
@pytest.mark.parametrize("architecture", ["deit_small_patch16_224", "swin_small_patch4_window7_224"])
def bench_evaluation_of_8_images(benchmark: Any, architecture: str, method: str) -> None:
    """Compare with the float row of the same model: at most 1.2x."""
    benchmark.group = f"forward pass of {architecture}, 8 images"
    with torch.no_grad(), kept_weights():
        benchmark.pedantic(
            evaluated(architecture, method), args=(torch.randn(8, 3, 224, 224),), rounds=5, warmup_rounds=1
        )


def ignore(_done: int, _total: int) -> None:
    """Show no progress."""


def bench_decoding_into_the_cache(benchmark: Any, task: ImageNet, tmp_path: Path, monkeypatch: Any) -> None:
    """What a first evaluation pays, once per data set and crop."""
    folders = iter(range(100))

    def anew() -> None:
        monkeypatch.setenv("VITPTQ_CACHE", str(tmp_path / str(next(folders))))
        kept_images.drop()

    benchmark.group = "16 photographs, 224 pixels"
    benchmark.pedantic(task.preload, args=("deit_small_patch16_224.fb_in1k",), setup=anew, rounds=3)


def bench_warm_evaluation_waits_for_less_than_a_twentieth(benchmark: Any, task: ImageNet) -> None:
    """DeiT-S; extra_info holds the share of the time that is spent on images: another process's check, copying."""
    name = "deit_small_patch16_224.fb_in1k"
    model: nn.Module = timm.create_model("deit_small_patch16_224", num_classes=CLASSES).eval()
    task.preload(name)
    image_cache._CHECKED.clear()  # as a new process finds it
    kept_images.drop()
    before = task.seconds_waited()
    benchmark.group = "16 photographs, 224 pixels"
    benchmark.pedantic(task.evaluate, args=(model, name, CPU, ignore), rounds=3)
    share = (task.seconds_waited() - before) / benchmark.stats.stats.total
    benchmark.extra_info["percent_for_images"] = round(100 * share, 2)
