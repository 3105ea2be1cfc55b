"""One recording per kind of operator."""

from __future__ import annotations

import pytest

from tests.methods.core.search.operator_recordings import OPERATORS, recording_of
from vitptq.methods.core.search.recording import Recording


@pytest.fixture(params=OPERATORS)
def recording(request: pytest.FixtureRequest) -> Recording:
    return recording_of(request.param)
