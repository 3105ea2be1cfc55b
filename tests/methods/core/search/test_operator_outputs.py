"""Outputs of many candidates at a time against a plain loop, for every kind of operator."""

from __future__ import annotations

import pytest
import torch

from tests.methods.core.search.operator_recordings import run
from vitptq.methods.core.search.operator_outputs import outputs
from vitptq.methods.core.search.recording import Recording, Rows, Side


@pytest.mark.parametrize("side", ["first", "second"])
def test_outputs_of_many_candidates_equal_a_loop(recording: Recording, side: Side) -> None:
    assert not isinstance(recording.operator, Rows)
    x = getattr(recording, side)
    candidates = torch.stack([x * factor for factor in (0.5, 1.0, 1.7, -2.0)])
    if side == "first":
        many = outputs(recording.operator, candidates, recording.second, side)
        loop = [run(recording.operator, candidate, recording.second) for candidate in candidates]
    else:
        many = outputs(recording.operator, recording.first, candidates, side)
        loop = [run(recording.operator, recording.first, candidate) for candidate in candidates]
    torch.testing.assert_close(many, torch.stack(loop))
