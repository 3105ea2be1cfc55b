"""Image files that are damaged, or of another kind than the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitptq.bench.errors import BadInput
from vitptq.tasks.image_files import EXIF_ORIENTATION, image_names, read_image, stored_size


def test_truncated_image_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.JPEG"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"cut\.JPEG is not a readable image .*truncated"):
        read_image(str(file))


def test_grey_image_becomes_rgb(tmp_path: Path) -> None:
    Image.new("L", (9, 9), 77).save(tmp_path / "grey.JPEG")
    assert read_image(str(tmp_path / "grey.JPEG")).mode == "RGB"


def test_an_image_beyond_pillows_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (400, 400)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)  # Pillow refuses from twice as many on
    for read in (read_image, stored_size):
        with pytest.raises(BadInput, match=r"huge\.png is not a readable image: .* Pillow's limit of 60,000"):
            read(tmp_path / "huge.png")


def test_what_stands_in_place_of_an_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to("/nonexistent.jpg")
    with pytest.raises(BadInput, match=r"link\.jpg is not a readable image \(it is a link to /nonexistent\.jpg"):
        read_image(tmp_path / "link.jpg")
    (tmp_path / "page.jpg").write_text("<html>429 Too Many Requests</html>")
    with pytest.raises(BadInput, match=r"page\.jpg is not a readable image \(it is a web page"):
        read_image(tmp_path / "page.jpg")


@pytest.mark.parametrize(("orientation", "turned"), [(1, (20, 30)), (3, (20, 30)), (6, (30, 20)), (8, (30, 20))])
def test_the_turned_size_is_that_of_opencv(tmp_path: Path, orientation: int, turned: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "image.jpg", exif=exif)
    found = stored_size(tmp_path / "image.jpg")
    assert (found.height, found.width, found.orientation) == (20, 30, orientation)
    assert found.turned == turned == cv2.imread(str(tmp_path / "image.jpg")).shape[:2]


def test_hidden_and_system_files_are_no_images(tmp_path: Path) -> None:
    for name in ("b.JPEG", "a.png", "._a.png", ".hidden.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / name).touch()
    assert image_names(tmp_path) == ["a.png", "b.JPEG"]
