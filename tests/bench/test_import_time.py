"""The board and the website are read without a model, so they start without torch."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "torchvision", "pandas", "mmengine")


@pytest.mark.parametrize(
    "module",
    [
        "vitptq.bench.board.exports.formats",
        "vitptq.bench.board.paired_comparison",
        "vitptq.bench.website.build",
        "vitptq.bench.run.provenance",
        "vitptq.bench.registry",
    ],
)
def test_what_reads_records_imports_no_heavy_package(module):
    code = f"import sys, {module}; print(*(set({HEAVY}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
