"""start.py, without installing anything."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import start

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which nothing is missing, with a copy of the repository's tox.ini and no environments."""
    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "Python.h").touch()
    shutil.copy(start.ROOT / "tox.ini", tmp_path)
    for name in start.LINKS:
        (tmp_path / "vitptq" / name).mkdir(parents=True)
    monkeypatch.setattr(start, "ROOT", tmp_path)
    monkeypatch.setattr(start, "BOOT", tmp_path / ".tox" / "boot")
    monkeypatch.setattr(start.sysconfig, "get_path", lambda name: str(headers))
    monkeypatch.setattr(start.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(start.shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    return tmp_path


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would have replaced this process."""
    commands: list[list[str]] = []
    monkeypatch.setattr(start.os, "execv", lambda path, arguments: commands.append(arguments))
    monkeypatch.setattr(start.os, "chdir", lambda path: None)
    return commands


def test_without_a_command_the_two_commands_are_shown(capsys):
    assert start.main([]) == 0
    shown = capsys.readouterr().out
    assert "python3 start.py quick" in shown
    assert "python3 start.py tests" in shown


def test_an_unknown_command_is_answered_with_the_known_ones(capsys):
    assert start.main(["test"]) == 2
    message = capsys.readouterr().err
    assert '"test"' in message
    assert "quick, tests, " in message


def test_a_complete_machine_has_no_problems():
    assert start.find_problems() == []


def test_a_clone_without_links_is_told_how_to_get_them(machine):
    (machine / "vitptq" / "methods").rmdir()
    (machine / "vitptq" / "methods").write_text("../methods")  # what git leaves where it makes no links
    (problem,) = start.find_problems()
    assert "git config core.symlinks true" in problem


def test_all_problems_are_reported_at_once(monkeypatch, machine, capsys):
    monkeypatch.setattr(start.shutil, "which", lambda name: None)
    monkeypatch.setattr(start.shutil, "disk_usage", lambda path: Usage(10**12, 0, 3 * 10**9))
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: None)
    (machine / "include" / "Python.h").unlink()
    assert start.main(["quick"]) == 1
    message = capsys.readouterr().err
    python = f"python3.{sys.version_info.minor}"
    assert "5 thing(s)" in message
    for part in ("apt install g++", "apt install git", f"{python}-dev", f"{python}-venv", "Only 3.0 GB are free"):
        assert part in message


def test_a_second_environment_needs_little_room(monkeypatch, machine):
    monkeypatch.setattr(start.shutil, "disk_usage", lambda path: Usage(10**12, 0, 3 * 10**9))
    (machine / ".tox/tests/lib/python3.11/site-packages/torch").mkdir(parents=True)
    assert start.find_problems() == []


def test_pip_alone_can_install_the_tools(monkeypatch):
    monkeypatch.setattr(start.importlib.util, "find_spec", lambda name: name if name == "pip" else None)
    assert start.can_install_tools()


def test_tools_that_are_there_are_used_again(monkeypatch, executed):
    start.BOOT.mkdir(parents=True)
    (start.BOOT / "tools.txt").write_text(start.tools_note(), encoding="utf-8")
    monkeypatch.setattr(start, "make_tools", lambda: pytest.fail("installed again"))
    start.main(["style"])
    assert executed[0][-2:] == ["-e", "style"]


def test_tools_of_other_versions_are_replaced(monkeypatch):
    start.BOOT.mkdir(parents=True)
    (start.BOOT / "tools.txt").write_text(start.tools_note(), encoding="utf-8")
    monkeypatch.setattr(start, "TOOLS", ("tox==0",))
    assert not start.tools_ready()


def test_a_failed_installation_of_the_tools_is_not_taken_for_done(monkeypatch, capsys):
    monkeypatch.setattr(start, "TOOLS", ("--no-such-option",))
    monkeypatch.setattr(start.subprocess, "run", lambda *arguments, **_: subprocess.CompletedProcess(arguments, 1))
    assert start.main(["tests"]) == 1
    assert "this command failed" in capsys.readouterr().err
    assert not start.tools_ready()


@pytest.mark.parametrize("given", [["-k", "store"], ["--", "-k", "store"]])
def test_further_arguments_go_to_the_command(given, executed):
    start.run_tox("tests", given)
    assert executed[0][-3:] == ["--", "-k", "store"]


def test_another_python_is_looked_for(monkeypatch, executed):
    monkeypatch.setattr(start, "PYTHONS", ((3, 99),))
    monkeypatch.setattr(start.subprocess, "run", lambda *arguments, **_: subprocess.CompletedProcess(arguments, 0))
    start.main(["quick"])
    assert executed[0][0] == "/usr/bin/python3.99"
    assert executed[0][-1] == "quick"


def test_without_a_fitting_python_one_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setattr(start, "PYTHONS", ())
    assert start.main(["quick"]) == 1
    assert "Python 3.11 or 3.12 is needed" in capsys.readouterr().err


def test_it_runs_with_nothing_but_the_standard_library():
    command = [sys.executable, "-I", "-S", str(Path(start.__file__))]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.defpath})
    assert "usage: python3 start.py" in shown.stdout
