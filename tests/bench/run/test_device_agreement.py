"""When two devices count as doing the same."""

from __future__ import annotations

import torch

from vitptq.bench.run.device_agreement import CPU, disagreement, in_one_row

GPU = torch.device("cuda")
EXPECTED = torch.ones(100)


def said(cpu: float, gpu: float, other_seed: float | None = None) -> str:
    """Say what is found where errors are so large, in opposite directions where one is negative."""
    errors = {(CPU, 0): cpu, (GPU, 0): gpu, (CPU, 1): cpu if other_seed is None else other_seed}
    return disagreement(EXPECTED, lambda device, seed: EXPECTED + errors[device, seed], GPU)


def test_close_outputs_agree() -> None:
    assert said(0.1, 0.11) == ""


def test_outputs_that_are_as_wrong_in_another_way_disagree() -> None:
    assert said(0.1, -0.1) == "its outputs are 2 apart where the error of quantisation is 1"


def test_methods_that_draw_numbers_need_an_error_of_the_same_size() -> None:
    assert said(0.1, -0.1, other_seed=0.12) == ""
    assert "the error of quantisation is 2 there and 1 on the CPU" in said(0.1, -0.2, other_seed=0.12)


def test_rounding_of_the_float_model_is_no_disagreement() -> None:
    assert said(0, 5e-4) == ""


def test_each_of_several_outputs_counts_as_much() -> None:
    row = in_one_row((torch.full((4,), 100.0), torch.ones(4)))
    assert torch.allclose(row, torch.full((8,), 0.5))
