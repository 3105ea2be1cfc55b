"""The quantizer of an operand in training: it says what it stands for, and leaves no trace in the state."""

from __future__ import annotations

import torch
from torch import Tensor

from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct.trainable_quantizer import TrainableQuantizer


class AsItIs(TrainableQuantizer):
    """Quantises as what it stands for."""

    def quantise(self, x: Tensor) -> Tensor:
        return self.inner.quantise(x)


INNER = Uniform(3, torch.tensor([0.1, 0.2]), torch.zeros(2), axis=0, granularity="channel")


def test_grid_groups_and_granularity_are_those_of_the_inner_one() -> None:
    form, x = AsItIs(INNER), torch.randn(2, 5)
    assert form.bits == 3 and form.granularity == "channel"
    assert torch.equal(form.grid(), INNER.grid())
    assert torch.equal(form.groups(x), INNER.groups(x))


def test_the_inner_one_is_no_part_of_the_state() -> None:
    form = AsItIs(INNER)
    assert form.state_dict() == {} and list(form.children()) == []
