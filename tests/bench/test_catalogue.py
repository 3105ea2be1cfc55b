"""What is remembered between commands, and when it is found out anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitptq.bench import catalogue
from vitptq.bench.results import suites

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_CACHE", str(tmp_path / "cache"))


def test_what_is_remembered_is_what_was_found() -> None:
    assert catalogue.cells("quick") == suites.load("quick")
    assert catalogue.cells("quick") == suites.load("quick")
    assert catalogue.method_cards() == catalogue.method_cards()
    assert catalogue.metrics() == catalogue.metrics()


def test_changed_code_is_found_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for content in ("one", "one", "two"):
        monkeypatch.setattr(catalogue, "fingerprint", lambda content=content: content)
        catalogue._remembered("kind", lambda: asked.append(1))
    assert len(asked) == 2


def test_damaged_entry_is_made_anew(tmp_path: Path) -> None:
    first = catalogue.families()
    for path in (tmp_path / "cache").iterdir():
        path.write_text("{")
    assert catalogue.families() == first


def test_nothing_is_remembered_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VITPTQ_CACHE", str(tmp_path / "file"))
    assert catalogue.families()["qdrop"] == "reconstruct"


def test_families_tell_what_takes_the_time() -> None:
    families = catalogue.families()
    assert (families["minmax"], families["brecq"]) == ("observe", "reconstruct")
    assert families["psaq-vit"] == "generate"


def test_a_command_that_measures_nothing_loads_neither_torch_nor_an_adapter(tmp_path: Path) -> None:
    catalogue.image_room(catalogue.cells("quick"))
    catalogue.families()
    script = (
        "import sys\n"
        "from vitptq.bench.cli import app\n"
        f"try:\n    app(['plan', 'quick', '--results', {str(tmp_path)!r}])\n"
        "finally:\n    print([name for name in ('torch', 'timm', 'vitptq.methods.minmax') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_a_remembered_card_keeps_with_which_parameters_a_method_was_compared() -> None:
    for _ in range(2):  # made, then read
        card = catalogue.method_cards()["fq-vit"]
        assert (card.parity, card.parity_test) == ({"form": "released"}, "tests/parity/test_fq_vit.py")


def test_the_newest_of_what_is_remembered_stays_within_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MOST_BYTES", 25)
    for age, name in enumerate(("newest", "older", "oldest")):
        path = tmp_path / f"{name}.json"
        path.write_bytes(bytes(10))
        os.utime(path, (1000 - age, 1000 - age))
    catalogue._prune(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"newest", "older"}
