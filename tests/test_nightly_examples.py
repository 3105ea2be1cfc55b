"""The examples of schedules and hooks: read by what reads them, as far as that is here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import typer

from vitptq.bench.cli import app

FOLDER = Path(__file__).parent.parent / "docs" / "examples" / "nightly"
FILES = sorted(FOLDER.iterdir())
SCRIPTS = [path for path in FILES if path.suffix == ".sh"]


def commands(path: Path) -> list[list[str]]:
    """Return the words of each vitptq command in a file, up to what belongs to the shell."""
    lines = re.findall(r"\.tox/quick/bin/vitptq (.+)$", path.read_text(), re.MULTILINE)
    return [shlex.split(line.split("||")[0].split(">")[0]) for line in lines]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_have_options_that_exist(path: Path) -> None:
    group = typer.main.get_command(app)
    for name, *arguments in commands(path):
        group.get_command(click.Context(group), name).make_context(name, arguments)


def test_every_schedule_has_a_command() -> None:
    with_commands = {path.name for path in FILES if commands(path)}
    assert with_commands == {"crontab", "slurm-array.sh", "slurm-report.sh", "vitptq-nightly.service", "workflow.yml"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_executable_and_shell(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_workflow_runs_on_a_schedule_and_on_a_gpu() -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((FOLDER / "workflow.yml").read_text())
    assert workflow[True]["schedule"] == [{"cron": "30 1 * * *"}]  # YAML reads `on` as true
    assert "gpu" in workflow["jobs"]["nightly"]["runs-on"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_units_are_right(tmp_path: Path) -> None:
    for path in FOLDER.glob("vitptq-nightly.*"):
        text = path.read_text().replace("/srv/vitptq/.tox/quick/bin/vitptq", "/bin/true").replace("User=vitptq\n", "")
        (tmp_path / path.name).write_text(text.replace("WorkingDirectory=/srv/vitptq", "WorkingDirectory=/"))
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def told(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a hook, with programs beside it that write down what they are given."""
    report = tmp_path / "report.md"
    report.write_text("# WORSE\n")
    for name in ("mail", "curl"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/given\n[ {name} = curl ] || cat > {tmp_path}/input\n'
        )
        program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return {"PATH": path, "VITPTQ_REPORT": str(report), "VITPTQ_FIRST_LINE": 'WORSE "x"', "VITPTQ_REGRESSIONS": "1"}


def test_mail_has_the_first_line_as_subject_and_the_report_as_text(told: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([FOLDER / "mail.sh"], env=told, check=True)
    assert (tmp_path / "given").read_text().splitlines() == ["-s", 'vitptq: WORSE "x"', "root"]
    assert (tmp_path / "input").read_text() == "# WORSE\n"


def test_chat_is_sent_json(told: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([FOLDER / "chat.sh"], env=told | {"VITPTQ_CHAT_URL": "https://chat.example/hook"}, check=True)
    given = (tmp_path / "given").read_text().splitlines()
    assert r'{"text": "vitptq: WORSE \"x\""}' in given
    assert given[-1] == "https://chat.example/hook"


@pytest.mark.parametrize("name", ["mail.sh", "chat.sh"])
def test_hooks_are_silent_where_nothing_became_worse(told: dict[str, str], tmp_path: Path, name: str) -> None:
    subprocess.run([FOLDER / name], env=told | {"VITPTQ_REGRESSIONS": "0"}, check=True)
    assert not (tmp_path / "given").exists()
