"""What a data-free method cannot reach while it works, and that nothing stays closed afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.bench import planted
from tests.bench.run.test_cell_run import cell, measured, plant
from tests.bench.tiny_task import TinyTask
from vitptq.bench import registry
from vitptq.bench.run import image_guard
from vitptq.bench.run.cell_run import Run
from vitptq.tasks.classification import images


@pytest.mark.parametrize("cls", planted.CHEATS, ids=lambda cls: cls.__name__)
def test_cell_of_a_cheater_fails_with_the_reason(
    cls: type[planted.Planted], tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(images._DECODED, "evaluation", torch.randn(4, 3, 32, 32))
    plant(monkeypatch, cls)
    record = measured(cell(method="planted"), run)
    assert record.failure is not None
    assert planted.CHEATS[cls] in record.failure.message


class _Filed(TinyTask):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def image_folders(self) -> list[Path]:
        return [self.folder]


def test_files_elsewhere_stay_readable(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    other = tmp_path / "images-of-the-method.txt"
    other.write_text("noise")
    with image_guard.closed_images([_Filed(tmp_path / "images")]):
        assert other.read_text() == "noise"


def test_link_into_the_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.txt").write_text("pixels")
    (tmp_path / "harmless").symlink_to(tmp_path / "images")
    with (
        pytest.raises(image_guard.ReadsImages, match="opened"),
        image_guard.closed_images([_Filed(tmp_path / "images")]),
    ):
        (tmp_path / "harmless" / "a.txt").read_text()


def test_everything_is_open_again_afterwards(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("pixels")
    with pytest.raises(image_guard.ReadsImages), image_guard.closed_images([_Filed(tmp_path)]):
        (tmp_path / "a.txt").read_text()
    assert (tmp_path / "a.txt").read_text() == "pixels"
    assert registry.tasks()
    assert not image_guard.active()
