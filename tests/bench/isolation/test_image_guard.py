"""What a data-free method cannot reach while it works, and that nothing stays closed afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.bench import planted
from tests.bench.run.test_cell_run import cell, measured, plant
from tests.bench.tiny_task import TinyTask
from vitptq.bench import registry
from vitptq.bench.isolation import image_guard
from vitptq.bench.run.cell_run import Run
from vitptq.tasks import kept_images
from vitptq.tasks.classification.images import PIXELS
from vitptq.tasks.decoding import Decoded

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("cls", planted.CHEATS, ids=lambda cls: cls.__name__)
def test_cell_of_a_cheater_fails_with_the_reason(
    cls: type[planted.Planted], tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kept_images._KEPT, "evaluation", [Decoded({PIXELS: np.ones((3, 32, 32), np.uint8)})] * 4)
    plant(monkeypatch, cls)
    record = measured(cell(method="planted"), run)
    assert record.failure is not None
    assert planted.CHEATS[cls] in record.failure.message


class Filed(TinyTask):
    """A task with files in `train/` and `val/`, and with decoded images in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.decoded: list[str] = ["pixels"]

    def image_folders(self) -> list[Path]:
        return [self.folder]

    def evaluation_folders(self) -> list[Path]:
        return [self.folder / "val"]

    @contextmanager
    def images_set_aside(self) -> Iterator[None]:
        kept, self.decoded = self.decoded, []
        try:
            yield
        finally:
            self.decoded = kept


@pytest.fixture
def filed(tmp_path: Path) -> Filed:
    for name in ("train", "val"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.bin").write_bytes(b"pixels")
    return Filed(tmp_path / "data")


def test_files_elsewhere_stay_readable(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    other = tmp_path / "images-of-the-method.txt"
    other.write_text("noise")
    with image_guard.closed_images([Filed(tmp_path / "images")]):
        assert other.read_text() == "noise"


def test_link_into_the_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.txt").write_text("pixels")
    (tmp_path / "harmless").symlink_to(tmp_path / "images")
    with (
        pytest.raises(image_guard.ReadsImages, match="opened"),
        image_guard.closed_images([Filed(tmp_path / "images")]),
    ):
        (tmp_path / "harmless" / "a.txt").read_text()


def test_everything_is_open_again_afterwards(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("pixels")
    with pytest.raises(image_guard.ReadsImages), image_guard.closed_images([Filed(tmp_path)]):
        (tmp_path / "a.txt").read_text()
    assert (tmp_path / "a.txt").read_text() == "pixels"
    assert registry.tasks()
    assert not image_guard.active()


READERS: list[Callable[[Path], object]] = [
    lambda path: path.read_bytes(),
    lambda path: list(path.parent.iterdir()),
    lambda path: torch.from_file(str(path), size=6, dtype=torch.uint8),
    lambda path: torch.UntypedStorage.from_file(str(path), False, 6),
    lambda path: torch.load(path, mmap=True),
]


@pytest.mark.parametrize("read", READERS)
def test_evaluation_split_is_closed_to_every_method(filed: Filed, read: Callable[[Path], object]) -> None:
    with (
        pytest.raises(image_guard.ReadsImages, match=r"a method may not read the evaluation's images: it .*val"),
        image_guard.closed_evaluation([filed]),
    ):
        read(filed.folder / "val" / "a.bin")


def test_training_split_is_open_to_a_method_with_data(filed: Filed) -> None:
    with image_guard.closed_evaluation([filed]):
        assert (filed.folder / "train" / "a.bin").read_bytes() == b"pixels"
        assert torch.from_file(str(filed.folder / "train" / "a.bin"), size=6, dtype=torch.uint8).numel() == 6


def test_decoded_evaluation_images_are_put_away_while_a_method_works(filed: Filed) -> None:
    with image_guard.closed_evaluation([filed]):
        assert filed.decoded == []
    assert filed.decoded == ["pixels"]


@pytest.mark.parametrize("how", ["from cv2 import imread", "imread = importlib.import_module('cv2').imread"])
def test_native_reader_is_watched_also_where_it_is_imported_inside(filed: Filed, how: str) -> None:
    program = f"""
import importlib
from pathlib import Path
from tests.bench.isolation.test_image_guard import Filed
from vitptq.bench.isolation import image_guard
with image_guard.closed_evaluation([Filed(Path({str(filed.folder)!r}))]):
    {how}
    imread({str(filed.folder / "val" / "a.bin")!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "a method may not read the evaluation's images: it called cv2.imread with" in done.stderr
