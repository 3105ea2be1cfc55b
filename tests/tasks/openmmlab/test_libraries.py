"""What of OpenMMLab is installed."""

from __future__ import annotations

import pytest

from vitptq.bench.errors import Missing
from vitptq.tasks.openmmlab import libraries


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = libraries.importlib.util.find_spec
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda name: None if name == "mmseg" else find(name))
    (problem,) = libraries.problems()
    assert problem.startswith("mmseg cannot be imported") and "install_mmcv.py" in problem


def test_mmcv_without_operators_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = libraries.importlib.util.find_spec
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda name: None if name == "mmcv._ext" else find(name))
    libraries.require.cache_clear()
    with pytest.raises(Missing, match="without its compiled operators"):
        libraries.require("mmdet")
