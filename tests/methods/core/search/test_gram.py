"""Errors of weight candidates as quadratic forms: what a loop over all of them finds, and where they are used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.methods.core.search.operator_recordings import BITS, OPERATORS, loop_in_float64, recording_of
from vitptq.methods.core.model.operands import Conv2d, Linear
from vitptq.methods.core.search import gram
from vitptq.methods.core.search.candidates import by_index, multiples, symmetric
from vitptq.methods.core.search.elimination import STEP
from vitptq.methods.core.search.gram import expanded, gram_losses
from vitptq.methods.core.search.objective import SquaredError
from vitptq.methods.core.search.operator_outputs import in_rows
from vitptq.methods.core.search.recording import MEGABYTE, Recording

WITH_A_FORM = [kind for kind, (build, _) in OPERATORS.items() if isinstance(build(), Linear | Conv2d)]


@pytest.mark.parametrize(("memory", "step"), [(1, 1), (MEGABYTE, 100), (MEGABYTE, STEP)])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("kind", WITH_A_FORM)
def test_the_form_is_the_error_of_every_weight_candidate(
    kind: str, weighted: bool, memory: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recording_of(kind)
    monkeypatch.setattr(gram, "STEP", step)
    recording = recording if weighted else replace(recording, gradient=None)
    noise = 0.1 * torch.randn_like(recording.second)  # as of an input that was quantised
    noisy = replace(recording, second=recording.second + noise)
    candidates = symmetric(by_index(recording.first, 0, judged=True), recording.first, 4, multiples(0.3, 1.2, 7))
    losses = expanded([in_rows(noisy)], candidates.judged, memory).losses(candidates, torch.arange(7))
    expected = loop_in_float64(noisy, "first", candidates, SquaredError(candidates.judged))
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)


def test_the_form_is_used_where_it_pays() -> None:
    torch.manual_seed(0)
    layer = Linear(nn.Linear(16, 24), BITS).requires_grad_(False)
    recording = in_rows(Recording(layer, layer.weight, torch.randn(500, 16), torch.randn(500, 24), torch.rand(500, 24)))
    assert gram_losses([recording], 100, None, 100 * MEGABYTE) is not None
    assert gram_losses([recording], 5, None, 100 * MEGABYTE) is None  # five candidates are soon computed
    assert gram_losses([recording], 100, None, 1000) is None  # a matrix per channel does not fit
    assert gram_losses([replace(recording, gradient=None)], 100, None, 20_000) is not None
