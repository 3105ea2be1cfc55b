"""Watched forward passes: what is shown, and where they end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vitptq.methods.core.model.watched_calls import ALL, watched_calls


class Counted(nn.Module):
    """Adds 1, and counts its calls."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + 1


@pytest.fixture
def net() -> nn.Sequential:
    twice = Counted()
    return nn.Sequential(Counted(), twice, twice, Counted())


def test_the_pass_ends_behind_the_last_call_that_is_wanted(net: Any) -> None:
    seen: list[float] = []
    with watched_calls({net[0]: 1, net[1]: 1}, lambda module, args, kwargs, out: seen.append(out.item())):
        net(torch.zeros(()))
    assert seen == [1, 2]
    assert (net[1].calls, net[3].calls) == (1, 0)


def test_all_calls_are_shown_of_a_pass_that_runs_to_its_end(net: Any) -> None:
    seen: list[float] = []
    with watched_calls({net[1]: ALL}, lambda module, args, kwargs, out: seen.append(out.item())):
        assert net(torch.zeros(())) == 4
    assert seen == [2, 3]


def test_calls_beyond_the_wanted_ones_are_not_shown(net: Any) -> None:
    seen: list[float] = []
    with watched_calls({net[1]: 1, net[3]: 1}, lambda module, args, kwargs, out: seen.append(out.item())):
        net(torch.zeros(()))
    assert seen == [2, 4]


def test_entering_shows_the_arguments_and_does_not_run_the_last_module(net: Any) -> None:
    seen: list[Any] = []
    with watched_calls({net[3]: 1}, lambda *call: seen.append(call[1:]), entering=True):
        net(torch.zeros(()))
    assert seen == [((torch.tensor(3.0),), {}, None)]
    assert net[3].calls == 0


def test_modules_are_released_when_the_forward_pass_fails(net: Any) -> None:
    with pytest.raises(ZeroDivisionError), watched_calls({net[0]: 1}, lambda *call: 1 / 0):
        net(torch.zeros(()))
    assert not any(module._forward_hooks for module in net.modules())
