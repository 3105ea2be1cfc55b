"""What the documents tell a person to type must work as typed."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vitptq as public
from vitptq.bench import registry
from vitptq.bench.cli import app

ROOT = Path(__file__).parent.parent
MORE_DOCUMENTS = [ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md", ROOT / "tasks" / "mini" / "README.md"]
EXAMPLE = ROOT / "docs" / "examples" / "smoothquant.py"
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


def code_of(path: Path) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def test_readme_has_exactly_two_commands_before_its_use_section() -> None:
    start = (ROOT / "README.md").read_text().split("## Use")[0]
    assert re.findall(r"^    (.*)$", start, re.MULTILINE) == ["python3 start.py quick", "python3 start.py tests"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def named_places(path: Path) -> set[str]:
    """Return the files and folders of the project that a text names: in documents between backticks."""
    text = path.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", text) if path.suffix == ".md" else [text]
    place = r"(?<![\w./-])((?:bench|methods|tasks|tests|docs|site)/[\w/-][\w./-]*[\w/])"
    return {found for span in spans for found in re.findall(place, span)}


def exists(place: str) -> bool:
    """Tell whether a file or folder has this name, or begins with it: a pattern or the end of a sentence cuts it."""
    return any(ROOT.glob(f"{place.rstrip('/')}*"))


@pytest.mark.parametrize("path", [*DOCUMENTS, *MORE_DOCUMENTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_places_that_a_document_names_exist(path: Path) -> None:
    assert not {place for place in named_places(path) if not exists(place)}


def test_places_that_sources_name_exist() -> None:
    sources = [path for folder in ("bench", "methods", "tasks", "tests") for path in (ROOT / folder).rglob("*.py")]
    sources += [ROOT / "pyproject.toml", ROOT / "tox.ini"]
    named = {(str(path.relative_to(ROOT)), place) for path in sources for place in named_places(path)}
    assert not {(where, place) for where, place in named if not exists(place)}


def test_design_tells_where_ten_things_are() -> None:
    questions = re.findall(r"^\| … (.+)\? \| (.+) \|$", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE)
    assert len(questions) >= 10
    assert all("`" in answer for _, answer in questions)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_their_options_exist(path: Path) -> None:
    for line in commands(path):
        name, *rest = shlex.split(line)[1:]
        text = vitptq(name, "--help")
        for option in (word.split("=")[0] for word in rest if word.startswith("--")):
            assert option in text, line


def test_example_of_add_a_method_works_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "add-a-method.md"
    (tmp_path / "clipped.py").write_text(code_of(page)[0])
    monkeypatch.chdir(tmp_path)
    check, run, board = (line for line in commands(page) if "clipped.py" in line)
    assert "keeps the contract" in vitptq(*shlex.split(check)[1:])
    planned = vitptq("plan", *shlex.split(run)[2:])
    # four bit specs with 32 calibration images, three with 128, and two of the released forms; one model, one seed
    assert planned.count("mini_vit clipped") == 9
    assert "mini_vit float" in planned
    with registry.temporary():  # nothing was measured here, and the board says so
        shown = CliRunner().invoke(app, shlex.split(board)[1:])
    assert "measure with vitptq run" in shown.output


def test_longer_example_of_add_a_method_keeps_the_contract() -> None:
    assert "keeps the contract" in vitptq("check", str(EXAMPLE))


@pytest.mark.slow
def test_examples_of_add_a_method_pass_the_strictest_type_check(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "clipped.py").write_text(code_of(ROOT / "docs" / "add-a-method.md")[0])
    # an adapter's author has vitptq installed, where mypy keeps silent about it
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path / 'cache'}"]
    files = [str(tmp_path / "clipped.py"), str(EXAMPLE)]
    shown = subprocess.run([sys.executable, "-m", "mypy", *options, *files], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout


def test_excerpts_of_add_a_method_are_lines_of_the_longer_example() -> None:
    lines = [line.strip() for line in EXAMPLE.read_text().splitlines() if line]
    _, *excerpts = code_of(ROOT / "docs" / "add-a-method.md")
    for excerpt in excerpts:
        wanted = [line.strip() for line in excerpt.splitlines() if line]
        assert any(lines[i : i + len(wanted)] == wanted for i in range(len(lines))), excerpt
    assert excerpts


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_examples_import_from_vitptq_what_is_public(path: Path) -> None:
    sources = [*code_of(path), *([EXAMPLE.read_text()] if path.name == "add-a-method.md" else [])]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    for node in (node for node in nodes if (node.module or "").startswith(("vitptq", "bench", "methods", "tasks"))):
        assert node.module == "vitptq"
        assert {alias.name for alias in node.names} <= set(public.__all__)
