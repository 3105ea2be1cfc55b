"""Seeds, learning rate and updates of a training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitptq.tasks.mini.training.steps import learning_rate, parameter_groups, stream_seed, update


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(2.0, step, 20, warmup=4, first=1) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0 and rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.05


def test_norms_biases_and_position_tables_are_not_decayed() -> None:
    model = nn.ModuleDict({"linear": nn.Linear(3, 2), "norm": nn.LayerNorm(3)})
    model.register_parameter("pos_embed", nn.Parameter(torch.zeros(1, 4, 3)))
    decayed, plain = parameter_groups(model, 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(2, 3)] and decayed["weight_decay"] == 0.1
    assert len(plain["params"]) == 4 and plain["weight_decay"] == 0.0


def test_an_update_follows_the_clipped_gradient_at_the_given_rate() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    optimiser = torch.optim.SGD(model.parameters(), lr=9.0)
    update(model, optimiser, 100 * model(torch.ones(1, 1)).sum(), rate=0.5, clip=1.0)
    assert model.weight.item() == pytest.approx(-0.5, abs=1e-5)


def test_every_unit_and_stream_has_a_seed_of_its_own() -> None:
    assert len({stream_seed(seed, unit, stream) for seed in range(3) for unit in range(3) for stream in range(3)}) == 27
