"""Timings: what is run, and that a failure becomes a line with its reason."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import CPU, two_block_models
from vitptq.bench.run.device_timings import RandomBatches, forward_pass, once, quantisation

IMAGES = RandomBatches((3, 32, 32), images=6, batch=4, device=CPU)


class Counting(nn.Module):
    """Counts its calls."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        self.calls += 1
        return x


def test_a_forward_pass_is_timed_after_a_warm_up() -> None:
    model = Counting()
    timing = forward_pass("it", model, torch.zeros(1), warm_up_s=0, measured_s=0)
    assert model.calls == 2
    assert timing.seconds is not None and timing.seconds > 0 and timing.problem == ""


def test_what_cannot_run_is_a_line_with_its_reason() -> None:
    timing = forward_pass("it", nn.Linear(3, 2), torch.zeros(1, 4))
    assert timing.seconds is None and "shapes cannot be multiplied" in timing.problem


def test_out_of_memory_is_a_line_with_its_reason() -> None:
    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert once("it", work, CPU).problem == "CUDA out of memory"


def test_methods_are_timed_with_the_model_that_they_made() -> None:
    found = list(quantisation(["minmax", "omse"], two_block_models()["ViT"], IMAGES, BitSpec(8, 8)))
    assert [timing.what for timing, _ in found] == ["quantise minmax W8A8", "quantise omse W8A8"]
    assert all(made is not None and made(torch.zeros(1, 3, 32, 32)).shape == (1, 10) for _, made in found)


def test_batches_are_the_images_in_order() -> None:
    batches = list(IMAGES.batches())
    assert [len(batch) for batch in batches] == [4, 2]
    assert torch.equal(torch.cat(batches), IMAGES.images)
