"""Settings of a reconstruction: values that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from vitptq.bench.errors import BadInput
from vitptq.methods.core.reconstruct.settings import Settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"iterations": -1}, "iterations=-1 .*0 or more"),
        ({"batch": 0}, "batch=0 .*1 or more"),
        ({"quantised_probability": 1.5}, r"quantised_probability=1\.5 .*0 to 1"),
        ({"quantised_input_probability": -0.1}, r"quantised_input_probability=-0\.1 .*0 to 1"),
        ({"warm_up": 2.0}, r"warm_up=2\.0 .*0 to 1"),
    ],
)
def test_values_out_of_their_range_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Settings(**settings)
