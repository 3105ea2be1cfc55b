"""Which browser the tests and the screenshots use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chromium import VARIABLE, chromium


def program(folder: Path, name: str) -> str:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder in which programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_without_a_browser_there_is_none(path: Path) -> None:
    assert chromium() is None


def test_chromium_comes_before_chrome(path: Path) -> None:
    program(path, "google-chrome")
    first = program(path, "chromium")
    assert chromium() == first


def test_the_environment_names_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path, "chromium")
    monkeypatch.setenv(VARIABLE, program(path, "mine"))
    assert chromium() == str(path / "mine")


def test_a_name_that_is_no_program_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path, "chromium")
    monkeypatch.setenv(VARIABLE, "nonesuch")
    with pytest.raises(FileNotFoundError, match="names nonesuch, which is no program"):
        chromium()
