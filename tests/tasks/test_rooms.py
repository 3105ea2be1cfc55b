"""What the modules of the tasks may import, and when."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitptq import tasks

ROOT = Path(tasks.__file__).resolve().parent
MODULES = sorted(file for file in ROOT.rglob("*.py") if file.name != "install_mmcv.py")  # which runs before the install
SLOW = ("mmcv", "mmdet", "mmengine", "mmseg", "pycocotools", "faster_coco_eval", "cv2")
OPEN = ("vitptq.bench.contracts", "vitptq.bench.bits", "vitptq.bench.errors", "vitptq.bench.files")
FULL_EDITIONS = {"classification": "imagenet", "detection": "coco", "segmentation": "ade20k"}


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_importing_a_module_imports_nothing_of_openmmlab(file: Path) -> None:
    at_import = imported(iter(ast.parse(file.read_text(encoding="utf-8")).body))
    assert not [name for name in at_import if name.split(".")[0] in SLOW]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_imports_of_the_harness_its_contracts_alone(file: Path) -> None:
    everywhere = imported(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    of_bench = [name for name in everywhere if name.startswith("vitptq.bench")]
    assert not [name for name in of_bench if not name.startswith(OPEN)]
    assert not [name for name in everywhere if name.startswith("vitptq.methods")]


@pytest.mark.parametrize(("task", "edition"), FULL_EDITIONS.items())
def test_the_tasks_have_one_shape(task: str, edition: str) -> None:
    shape = {"task.py", "evidence.py", "inference.py", f"{edition}.py", f"{edition}_models.py", f"{edition}_lists"}
    assert shape <= {path.name for path in (ROOT / task).iterdir()}
    assert (ROOT / "mini" / f"{task}.py").is_file()


@pytest.mark.parametrize(
    "folder", sorted(file.parent for file in ROOT.rglob("__init__.py")), ids=lambda path: path.name
)
def test_every_folder_says_what_lives_there_and_what_does_not(folder: Path) -> None:
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert said and len(said.splitlines()) >= 3
