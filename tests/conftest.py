"""What every test finds."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest

hypothesis.settings.register_profile("busy", deadline=None)  # a busy machine is no failure of what is tested
hypothesis.settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what commands remember, and decoded images, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITPTQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
