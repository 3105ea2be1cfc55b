"""Ranks for a parameter budget."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.errors import Unsupported
from vitptq.methods.core.lowrank.allotment import Candidate, greedy_ranks, uniform_ranks


def layer(outputs: int, inputs: int, seed: int, decay: float = 1.0) -> Candidate:
    count = min(outputs, inputs)
    values = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    energy = (values * torch.arange(1, count + 1).double() ** -decay).sort(descending=True).values
    return Candidate(outputs, inputs, energy / energy.sum())


LAYERS = {"qkv": layer(60, 20, 0), "proj": layer(20, 20, 1, 2.0), "fc1": layer(80, 20, 2, 0.5), "fc2": layer(20, 80, 3)}
WHOLE = sum(each.dense for each in LAYERS.values())


def total(ranks: dict[str, int], extra: int = 0) -> int:
    return sum(each.cost(ranks[name] + extra) for name, each in LAYERS.items())


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4, 0.2])
@pytest.mark.parametrize("extra", [0, 2])
def test_total_is_within_the_budget_and_close_to_it(share: float, extra: int) -> None:
    budget = int(share * WHOLE)
    ranks = greedy_ranks(LAYERS, budget, extra=extra)
    assert budget - 100 < total(ranks, extra) <= budget  # a rank of the largest layer is 100 parameters


def test_whole_budget_keeps_every_component() -> None:
    assert greedy_ranks(LAYERS, WHOLE) == dict.fromkeys(LAYERS, 20)


def test_same_ranks_on_every_run() -> None:
    assert greedy_ranks(LAYERS, WHOLE // 2) == greedy_ranks(LAYERS, WHOLE // 2)


def test_tighter_budget_never_raises_a_rank_without_giving_back() -> None:
    before = dict.fromkeys(LAYERS, 99)
    for percent in range(90, 20, -5):
        ranks = greedy_ranks(LAYERS, WHOLE * percent // 100, give_back=False)
        assert all(ranks[name] <= before[name] for name in LAYERS)
        before = ranks


def test_giving_back_only_raises_ranks() -> None:
    gained = 0
    for percent in range(80, 20, -5):
        budget = WHOLE * percent // 100
        without, with_it = greedy_ranks(LAYERS, budget, give_back=False), greedy_ranks(LAYERS, budget)
        assert all(with_it[name] >= rank for name, rank in without.items())
        gained += total(with_it) - total(without)
    assert gained > 0


def test_layer_whose_energy_is_in_few_components_keeps_a_lower_rank() -> None:
    alike = {"steep": layer(40, 40, 0, 3.0), "flat": layer(40, 40, 0, 0.1)}
    ranks = greedy_ranks(alike, 1600)
    assert ranks["steep"] < ranks["flat"]


def test_ties_drop_the_later_component_of_the_earlier_layer() -> None:
    even = torch.full((4,), 0.25, dtype=torch.float64)
    layers = {"a": Candidate(4, 4, even), "b": Candidate(4, 4, even)}
    assert greedy_ranks(layers, 24, give_back=False) == {"a": 1, "b": 4}


def test_budget_below_the_least_rank_is_refused_with_the_numbers() -> None:
    with pytest.raises(Unsupported, match="with rank 3 in every layer 960 parameters"):
        greedy_ranks(LAYERS, 100, extra=2)


def test_uniform_ranks_are_one_share_of_the_break_even_rank() -> None:
    budget = int(0.4 * WHOLE)
    ranks = uniform_ranks(LAYERS, budget)
    shares = [ranks[name] * (each.outputs + each.inputs) / each.dense for name, each in LAYERS.items()]
    assert max(shares) - min(shares) < 0.1
    assert budget - 400 < total(ranks) <= budget
