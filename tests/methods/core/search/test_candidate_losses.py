"""Losses of input candidates without outputs: those of a loop over the outputs; losses on images of several sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.methods.core.search.operator_recordings import BITS, loop_in_float64
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.search.candidate_losses import CosineOfInputs, LossesOfSizes, candidate_losses
from vitptq.methods.core.search.candidates import multiples, symmetric, whole_tensor
from vitptq.methods.core.search.elimination import CandidateLosses
from vitptq.methods.core.search.objective import CHANNELS, Cosine
from vitptq.methods.core.search.operator_outputs import in_rows
from vitptq.methods.core.search.recording import Recording


def test_cosines_of_a_wide_layer_need_no_outputs() -> None:
    torch.manual_seed(0)
    layer = Linear(nn.Linear(5, 16), BITS).requires_grad_(False)
    x = torch.randn(40, 5)
    recording = Recording(layer, layer.weight, x, layer(x) + 0.01 * torch.randn(40, 16))
    candidates, objective = symmetric(whole_tensor(), x, 4, multiples(0.5, 1.2, 9)), Cosine(axes=CHANNELS)
    found = candidate_losses([in_rows(recording)], "second", candidates, objective)
    assert isinstance(found, CosineOfInputs)
    losses = found.losses(torch.arange(9), slice(0, 40)).sum(1)
    native = Recording(layer, layer.weight, x[:, None], recording.output[:, None])
    expected = loop_in_float64(native, "second", candidates, objective)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-3, atol=1e-6)
    backwards = found.ordered(torch.arange(40).flip(0))
    torch.testing.assert_close(backwards.losses(torch.arange(9), slice(0, 40)).sum(1), losses)


class Numbered(CandidateLosses):
    """Losses that tell candidate and row."""

    device, size = torch.device("cpu"), 1

    def __init__(self, first: int, rows: int, order: Tensor | None = None) -> None:
        self.first, self.rows = first, rows
        self.order = torch.arange(rows) if order is None else order

    def losses(self, places: Tensor, rows: slice) -> Tensor:
        return (100 * places[:, None] + self.first + self.order[rows]).unsqueeze(-1)

    def ordered(self, order: Tensor) -> Numbered:
        return Numbered(self.first, self.rows, self.order[order])


def test_rows_of_several_sizes_come_in_any_order() -> None:
    losses = LossesOfSizes([Numbered(0, 3), Numbered(3, 4), Numbered(7, 2)])
    assert losses.losses(torch.tensor([2]), slice(1, 8)).flatten().tolist() == [200 + i for i in range(1, 8)]
    order = torch.tensor([8, 0, 5, 3, 1, 7, 6, 2, 4])
    shuffled = losses.ordered(order)
    assert shuffled.losses(torch.tensor([0]), slice(2, 7)).flatten().tolist() == order[2:7].tolist()
    again = shuffled.ordered(order).losses(torch.tensor([0]), slice(0, 9))
    assert again.flatten().tolist() == order[order].tolist()
