"""Bit specs: what is refused."""

from __future__ import annotations

import pytest

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput


@pytest.mark.parametrize("text", ["W4", "4A4", "W4A4 ", "W1A4", "W4A9", "W16A16", ""])
def test_bad_bit_spec_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        BitSpec.parse(text)
