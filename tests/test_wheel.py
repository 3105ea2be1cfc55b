"""What is installed: everything below `vitptq`, with the data that the modules read beside themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGED = ("bench", "methods", "site", "tasks")

FIND_EVERYTHING = """
import json
import torch
from vitptq.bench import registry
from vitptq.bench.results import suites
from vitptq.bench.website import templates
found = {
    "methods": len(registry.methods()),
    "suites": len(list(suites.FOLDER.glob("*.toml"))),
    "lists": [len(task.calibration_names(8, 0)) for task in registry.tasks().values()],
    "weights": registry.task("imagenet", "mini").load("mini_vit", torch.device("cpu")).num_classes,
    "templates": (templates.shipped() / "base.html").is_file(),
    "place": registry.__file__,
}
print(json.dumps(found))
"""


def contents(target: str) -> dict[str, str]:
    """Return the files of the wheel or source archive: place in the clone by place in the archive."""
    builders = pytest.importorskip(f"hatchling.builders.{target}")
    builder = vars(builders)[{"wheel": "WheelBuilder", "sdist": "SdistBuilder"}[target]](str(ROOT))
    return {file.distribution_path: file.relative_path for file in builder.recurse_included_files()}


def test_wheel_puts_nothing_but_vitptq_into_an_environment() -> None:
    assert {path.split("/")[0] for path in contents("wheel")} == {"vitptq"}


def test_wheel_holds_every_file_of_the_packaged_folders() -> None:
    there = {str(path.relative_to(ROOT)) for folder in PACKAGED for path in (ROOT / folder).rglob("*.*")}
    expected = {path for path in there if (ROOT / path).is_file() and "__pycache__" not in path}
    assert expected <= set(contents("wheel").values())


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    assert "vitptq/py.typed" in contents("wheel")


def test_source_archive_holds_all_that_the_wheel_is_made_from() -> None:
    assert set(contents("wheel").values()) <= set(contents("sdist"))


def test_installed_copy_finds_methods_tasks_suites_lists_weights_and_templates(tmp_path: Path) -> None:
    for place, source in contents("wheel").items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, tmp_path / place)
    shown = subprocess.run(
        [sys.executable, "-P", "-c", FIND_EVERYTHING],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(shown.stdout.splitlines()[-1])
    assert Path(found.pop("place")).is_relative_to(tmp_path)
    assert found.pop("lists") == [8] * 6
    assert all(found.values()), found
