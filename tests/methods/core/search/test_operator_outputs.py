"""Outputs of many candidates at a time against a plain loop, for every kind of operator."""

from __future__ import annotations

import pytest
import torch

from tests.methods.core.search.operator_recordings import OPERATORS, recording_of, run
from vitptq.methods.core.search.operator_outputs import in_rows, outputs
from vitptq.methods.core.search.recording import Rows, Side


@pytest.mark.parametrize("side", ["first", "second"])
@pytest.mark.parametrize("kind", OPERATORS)
def test_outputs_of_many_candidates_equal_a_loop(kind: str, side: Side) -> None:
    recording = recording_of(kind)
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


def test_positions_of_pointwise_operators_come_in_a_row_with_the_same_products() -> None:
    recording = recording_of("linear")
    rows = in_rows(recording)
    assert rows.output.shape == (15, 9) and isinstance(rows.operator, Rows)
    torch.testing.assert_close(outputs(rows.operator, rows.first[None], rows.second, "first")[0], rows.output)
    assert in_rows(map3x3 := recording_of("convolution")) is map3x3  # positions of a 3x3 convolution mix
    assert in_rows(kept := recording_of("queries and keys")) is kept
