"""What a file may not do while it is imported: read an image, leave a process running, change the process it is in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from tests.bench.isolation.test_image_guard import Filed, filed
from vitptq.bench import registry
from vitptq.bench.errors import BadInput

__all__ = ["filed"]

ADAPTER = """
import os, subprocess
from dataclasses import dataclass
from pathlib import Path
import torch
from vitptq.bench.contracts.method import Method
{reads}
@dataclass(frozen=True)
class Early(Method):
    "Planted."
    name, title, fidelity, category = "early", "Early", "paper", "{category}"
    def quantize(self, model, calibration, bits):
        return model
"""


@pytest.mark.parametrize("category", ["ptq", "data-free"])
@pytest.mark.parametrize(
    "reads", ["FOUND = {}.read_bytes()", "FOUND = open({}, 'rb')", "FOUND = os.listdir({}.parent)"]
)
def test_images_are_closed_to_an_adapter_while_it_is_imported(
    filed: Filed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str, category: str
) -> None:
    path = filed.folder / "train" / "a.bin"
    read = reads.format(f"Path({str(path)!r})")
    with pytest.raises(BadInput, match=r"may not read images while it is imported: it (opened|looked at)"):
        _imported(read, category, filed, tmp_path, monkeypatch)


def test_process_started_by_a_data_free_adapter_while_it_is_imported_is_refused(
    filed: Filed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = "FOUND = subprocess.run(['echo', 'pixels'], capture_output=True).stdout"
    with pytest.raises(BadInput, match=r"it started a process \(subprocess.Popen\)"):
        _imported(run, "data-free", filed, tmp_path, monkeypatch)
    _imported(run, "ptq", filed, tmp_path, monkeypatch)


def test_process_that_an_adapter_leaves_running_when_it_is_imported_is_refused(
    filed: Filed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="it left a process running"):
        _imported("LEFT = os.posix_spawnp('sleep', ['sleep', '2'], os.environ)", "ptq", filed, tmp_path, monkeypatch)


def test_process_that_ran_before_is_no_doing_of_an_adapter(
    filed: Filed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "20"]) as before:
        try:
            _imported("FOUND = subprocess.run(['echo'], capture_output=True)", "ptq", filed, tmp_path, monkeypatch)
        finally:
            before.kill()


def _imported(statement: str, category: str, filed: Filed, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load an adapter that runs `statement` when it is imported."""
    monkeypatch.setattr(registry, "tasks", lambda: {("tiny", "test"): filed})
    adapter = folder / "early.py"
    adapter.write_text(ADAPTER.format(reads=statement, category=category))
    with registry.temporary():
        registry.add_file(adapter)


def test_file_that_changes_the_process_is_refused(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text("import torch\ntorch.set_default_dtype(torch.float64)\n")
    try:
        with registry.temporary(), pytest.raises(BadInput, match="it changed torch's default dtype .* in this process"):
            registry.add_file(adapter)
    finally:
        torch.set_default_dtype(torch.float32)
