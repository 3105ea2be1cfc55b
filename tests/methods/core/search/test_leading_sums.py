"""Sums for the best candidates alone: those of everything computed, with less computed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitptq.methods.core.search import leading_sums as module
from vitptq.methods.core.search.leading_sums import PartError, leading_sums


class Parts:
    """Known errors (parts, groups, candidates), asked for by the numbers in `scale`."""

    def __init__(self, errors: Tensor) -> None:
        self.errors, self.asked = errors, 0
        self.scale = torch.arange(errors.shape[2]).float().expand(errors.shape[1:])

    def functions(self) -> list[PartError]:
        return [self._part(errors) for errors in self.errors]

    def _part(self, errors: Tensor) -> PartError:
        def error(scale: Tensor, zero: Tensor) -> Tensor:
            self.asked += scale.shape[1]
            return errors.gather(1, scale.long())

        return error

    def best(self, wanted: int | None) -> Tensor:
        return leading_sums(self.functions(), self.scale, self.scale, wanted)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), groups=st.integers(1, 3), wanted=st.integers(1, 9))
def test_the_wanted_candidates_are_those_of_whole_sums(seed: int, groups: int, wanted: int) -> None:
    torch.manual_seed(seed)
    parts = Parts(torch.rand(5, groups, 9) * torch.rand(1, 1, 9) * 4)
    whole = parts.errors.sum(0)
    found = parts.best(wanted).sort(dim=1)
    torch.testing.assert_close(found.values[:, :wanted], whole.sort(dim=1).values[:, :wanted])
    assert torch.equal(found.indices[:, :wanted], whole.sort(dim=1).indices[:, :wanted])


def test_losers_are_not_computed_to_the_end() -> None:
    torch.manual_seed(0)
    parts = Parts(torch.rand(8, 1, 1) * torch.linspace(1, 5, 100)[torch.randperm(100)])
    assert parts.best(3)[0].isinf().sum() > 50
    assert parts.asked < 100 * 8 * 2 / 3


@pytest.mark.parametrize("slack", [module.SLACK, -0.9])
def test_a_bound_that_gives_up_too_early_shows(slack: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLACK", slack)
    errors = torch.tensor([[[1.0, 1.2, 3.0]], [[5.0, 1.0, 9.0]]])  # the second is behind the first at the start
    assert (Parts(errors).best(1).argmin().item() == 1) == (slack > 0)


def test_what_is_no_number_does_not_win() -> None:
    errors = torch.tensor([[[torch.nan, 2.0, 1.0]], [[0.0, 1.0, 1.0]]])
    assert Parts(errors).best(1).argmin().item() == 2
