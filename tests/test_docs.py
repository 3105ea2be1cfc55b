"""What the documents tell a person to type must work as typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vitptq.bench import registry
from vitptq.bench.cli import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(path: Path) -> list[str]:
    """Return the vitptq commands of the indented blocks, without the remarks beside them."""
    lines = re.findall(r"^    (vitptq .*)$", path.read_text(), re.MULTILINE)
    return [re.split(r"\s{3,}", line)[0] for line in lines]


def vitptq(*arguments: str) -> str:
    with registry.temporary():
        result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_readme_has_exactly_two_commands_before_its_use_section() -> None:
    start = (ROOT / "README.md").read_text().split("## Use")[0]
    assert re.findall(r"^    (.*)$", start, re.MULTILINE) == ["python3 start.py quick", "python3 start.py tests"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_their_options_exist(path: Path) -> None:
    for line in commands(path):
        name, *rest = shlex.split(line)[1:]
        text = vitptq(name, "--help")
        for option in (word.split("=")[0] for word in rest if word.startswith("--")):
            assert option in text, line


def test_example_of_add_a_method_works_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "add-a-method.md"
    (source,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (tmp_path / "clipped.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    check, run, board = (line for line in commands(page) if "clipped.py" in line)
    assert "keeps the contract" in vitptq(*shlex.split(check)[1:])
    planned = vitptq("plan", *shlex.split(run)[2:])
    # four bit specs with 32 calibration images, three with the 128 of reconstruction methods; one model, one seed
    assert planned.count("mini_vit clipped") == 7
    assert "mini_vit float" in planned
    assert "no records yet" in vitptq(*shlex.split(board)[1:])
