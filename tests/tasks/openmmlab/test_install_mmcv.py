"""The build step of mmcv, without building it."""

import io
import re
import sys
import tomllib
from pathlib import Path

import pytest

from vitptq.tasks.openmmlab import install_mmcv

ROOT = Path(install_mmcv.__file__).resolve().parents[2]
WANTED = {"package": "p", "torch": "2.11.0", "python": "cp311", "operators": "cpu", "flags": "-O1 -g0"}
WHEEL = f"onedl_mmcv-{install_mmcv.VERSION}-cp311-cp311-linux_x86_64.whl"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment in a temporary folder in which installing and compiling only leave a trace."""
    trace: list[str] = []
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("VITPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(install_mmcv, "fingerprint", lambda: WANTED)
    monkeypatch.setattr(
        install_mmcv, "installed_version", lambda name: install_mmcv.VERSION if "install" in trace else None
    )
    monkeypatch.setattr(install_mmcv, "install", lambda wheel: trace.append("install"))
    monkeypatch.setattr(install_mmcv, "operators_failure", lambda: None)

    def build(folder):
        trace.append("build")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WHEEL).touch()
        return folder / WHEEL

    monkeypatch.setattr(install_mmcv, "build_wheel", build)
    return trace


def test_it_builds_once_and_then_has_nothing_to_do(environment):
    install_mmcv.ensure_mmcv()
    install_mmcv.ensure_mmcv()
    assert environment == ["build", "install"]


def test_a_kept_wheel_is_installed_without_building(environment):
    folder = install_mmcv.wheel_folder(WANTED)
    folder.mkdir(parents=True)
    (folder / WHEEL).touch()
    install_mmcv.ensure_mmcv()
    assert environment == ["install"]


def test_a_kept_wheel_that_does_not_run_is_built_once_more(environment, monkeypatch):
    folder = install_mmcv.wheel_folder(WANTED)
    folder.mkdir(parents=True)
    (folder / WHEEL).touch()
    monkeypatch.setattr(
        install_mmcv, "operators_failure", lambda: None if "build" in environment else "undefined symbol"
    )
    install_mmcv.ensure_mmcv()
    assert environment == ["install", "build", "install"]


def test_operators_that_never_run_are_an_error_with_the_reason(environment, monkeypatch, capsys):
    monkeypatch.setattr(install_mmcv, "operators_failure", lambda: "No module named 'mmcv._ext'")
    assert install_mmcv.main() == 1
    message = capsys.readouterr().err
    assert "No module named 'mmcv._ext'" in message
    assert "Remove the folder" in message


@pytest.mark.parametrize("part", ["torch", "python", "operators", "flags"])
def test_wheels_for_different_versions_are_kept_apart(part):
    assert install_mmcv.wheel_folder(WANTED) != install_mmcv.wheel_folder({**WANTED, part: "other"})


def test_without_torch_nothing_is_built(monkeypatch):
    monkeypatch.setattr(install_mmcv, "installed_version", lambda name: None)
    with pytest.raises(install_mmcv.SetupError, match=re.escape("requirements/lock.txt")):
        install_mmcv.fingerprint()


def test_without_the_cuda_compiler_the_gpu_is_hidden_from_the_build(monkeypatch):
    monkeypatch.setattr(install_mmcv, "cuda_compiler", lambda: None)
    assert install_mmcv.build_environment()["CUDA_VISIBLE_DEVICES"] == ""


def test_in_a_log_progress_is_whole_lines_and_few():
    log = io.StringIO()
    lines = [f"  [{step}/78] c++ file_{step}.cpp\n" for step in range(1, 79)]
    passed = list(install_mmcv.show_progress(lines, install_mmcv.Progress(log)))
    assert passed == lines
    shown = log.getvalue().splitlines()
    assert len(shown) == 2
    assert shown[-1].startswith("mmcv: compiled 78 of 78 (100 %)")


def test_on_a_terminal_progress_renews_one_line():
    terminal = Terminal()
    list(install_mmcv.show_progress(["[1/2] c++\n", "other\n", "[2/2] c++\n"], install_mmcv.Progress(terminal)))
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().count("\r") == 2


def test_a_failed_build_shows_its_end_the_cause_and_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(install_mmcv, "run_build", lambda folder, log: (1, ["fatal error: Python.h: No such file"]))
    with pytest.raises(install_mmcv.SetupError, match=r"(?s)Python\.h.*python3-dev.*build\.log"):
        install_mmcv.build_wheel(tmp_path)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("c++: fatal error: Killed signal terminated program cc1plus", "MAX_JOBS=1"),
        ("cc1plus: error: cannot allocate memory", "MAX_JOBS=1"),
        ("fatal error: error writing to /tmp/x.s: No space left on device", "free some space"),
        ("ERROR: No matching distribution found for onedl-mmcv==2.3.6", "could not be downloaded"),
        ("ModuleNotFoundError: No module named 'setuptools'", "requirements/lock.txt"),
        ("error: something new", "look for the first error"),
    ],
)
def test_the_likely_cause_names_the_next_step(line, advice):
    assert advice in install_mmcv.likely_cause(["[1/78] c++ -DCUDA -DPython.h SSL", line, "  note: from a subprocess"])


def test_the_output_of_a_build_goes_to_the_log_and_the_progress(tmp_path, monkeypatch, capfd):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho '  [1/2] c++ a.cpp'\necho '  [2/2] c++ b.cpp'\necho broken >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    status, last_lines = install_mmcv.run_build(tmp_path / "wheels", tmp_path / "build.log")
    assert status == 3
    assert last_lines[-1] == "broken"
    assert "[2/2] c++ b.cpp" in (tmp_path / "build.log").read_text()
    assert "compiled 2 of 2" in capfd.readouterr().out


def test_the_version_is_the_pinned_one_and_the_lock_leaves_it_to_this_step():
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    assert f"{install_mmcv.PACKAGE}=={install_mmcv.VERSION}" in pins
    lock = (ROOT / "requirements/lock.txt").read_text()
    assert f"{install_mmcv.PACKAGE}==" not in lock
    assert "torch==2.11.0 " in lock
