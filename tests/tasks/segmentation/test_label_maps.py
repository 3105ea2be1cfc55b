"""Label maps found, paired and checked, on small trees."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tasks.segmentation.ade20k_tree import CLASSES, SIZES, save, write_tree
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.image_files import EXIF_ORIENTATION
from vitptq.tasks.segmentation import label_maps

HINT = "Download it."
SECOND = "ADE_val_00000002"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree(tmp_path)


def checked(root: Path, classes: int = CLASSES) -> int:
    return label_maps.check(label_maps.pairs(root, "validation", HINT), classes, workers=2)


def test_pairs_are_sorted_and_every_pixel_is_read(root: Path) -> None:
    found = label_maps.pairs(root, "validation", HINT)
    assert [pair.image.name for pair in found] == [f"ADE_val_{number:08d}.jpg" for number in range(1, 6)]
    assert all(pair.labels.stem == pair.image.stem for pair in found)
    assert checked(root) == sum(height * width for height, width in SIZES)


@pytest.mark.parametrize("folder", ["images/validation", "annotations/validation"])
def test_missing_folder_is_named_with_the_next_step(root: Path, folder: str) -> None:
    shutil.rmtree(root / folder)
    with pytest.raises(Missing, match=rf"{folder} is not there\. Download it\."):
        checked(root)


def test_image_without_label_map_is_refused(root: Path) -> None:
    (root / f"annotations/validation/{SECOND}.png").unlink()
    with pytest.raises(
        BadInput, match=rf"images/validation/{SECOND}\.jpg has no label map: .*\(1 of 5 images are alone"
    ):
        checked(root)


def test_label_map_without_image_is_refused(root: Path) -> None:
    (root / f"images/validation/{SECOND}.jpg").unlink()
    with pytest.raises(BadInput, match=rf"{SECOND}\.png has no image: .*\(1 of 5 label maps are alone"):
        checked(root)


def test_label_value_out_of_range_names_file_and_value(root: Path) -> None:
    checked(root)
    file = root / f"annotations/validation/{SECOND}.png"
    labels = np.array(Image.open(file))
    labels[5, 5:8] = CLASSES + 2
    save(file, labels)
    with pytest.raises(BadInput, match=rf"{SECOND}\.png has label value 7 in 3 of 2240 pixels; allowed are 0 to 5"):
        checked(root)
    assert checked(root, classes=CLASSES + 2) > 0


def test_truncated_label_map_is_refused(root: Path) -> None:
    file = root / f"annotations/validation/{SECOND}.png"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(BadInput, match=rf"{SECOND}\.png is not a readable label map"):
        checked(root)


def test_truncated_image_is_refused_before_it_is_decoded(root: Path) -> None:
    file = root / f"images/validation/{SECOND}.jpg"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(BadInput, match=rf"{SECOND}\.jpg is not a readable image"):
        checked(root)


@pytest.mark.parametrize("kind", ["RGB", "16 bits"])
def test_label_map_of_another_kind_is_refused(root: Path, kind: str) -> None:
    height, width = SIZES[1]
    pixels = np.ones((height, width, 3), np.uint8) if kind == "RGB" else np.full((height, width), 257, np.uint16)
    save(root / f"annotations/validation/{SECOND}.png", pixels)
    with pytest.raises(BadInput, match=rf"{SECOND}\.png has pixels of mode (RGB|I;16)"):
        checked(root)


def test_label_map_of_another_size_is_refused(root: Path) -> None:
    save(root / f"annotations/validation/{SECOND}.png", np.ones(SIZES[0], np.uint8))
    with pytest.raises(BadInput, match=rf"{SECOND}\.png has 56 x 40 pixels, {SECOND}\.jpg 40 x 56"):
        checked(root)


def test_rotation_in_the_exif_data_counts(root: Path) -> None:
    height, width = SIZES[1]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.new("RGB", (height, width)).save(root / f"images/validation/{SECOND}.jpg", exif=exif)
    assert checked(root) > 0


@pytest.mark.parametrize(("orientation", "size"), [(3, SIZES[1]), (2, SIZES[1]), (6, (40, 40))])
def test_a_turn_that_does_not_show_in_the_size_is_refused(root: Path, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.new("RGB", size[::-1]).save(root / f"images/validation/{SECOND}.jpg", exif=exif)
    with pytest.raises(BadInput, match=rf"{SECOND}\.jpg is turned or mirrored by its EXIF orientation {orientation}"):
        checked(root)


@pytest.mark.parametrize(("kind", "suffix"), [("images", ".jpg"), ("annotations", ".png")])
def test_a_link_that_leads_nowhere_is_named(root: Path, kind: str, suffix: str) -> None:
    file = root / kind / "validation" / f"{SECOND}{suffix}"
    file.unlink()
    file.symlink_to("/nonexistent/file")
    with pytest.raises(Missing, match=rf"{SECOND}\{suffix} is a link to /nonexistent/file, which is not there"):
        checked(root)


def test_a_label_map_beyond_pillows_limit_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadInput, match=rf"{SECOND}\.png is not a readable label map: it has more pixels than Pillow's"):
        label_maps.read_labels(root / "annotations" / "validation" / f"{SECOND}.png")


def test_system_files_are_no_images(root: Path) -> None:
    for name in ("._ADE_val_00000001.jpg", "@eaDir", "Thumbs.db"):
        (root / "images/validation" / name).write_bytes(b"not an image")
    assert checked(root) > 0


@pytest.mark.parametrize("how", ["copy", "link", "symlink"])
def test_evaluation_image_under_another_name_is_refused(root: Path, how: str) -> None:
    validation = label_maps.image_files(root / "images/validation", HINT)
    training = label_maps.image_files(root / "images/training", HINT)
    label_maps.refuse_leak(training, validation)
    training[3].unlink()
    {"copy": shutil.copyfile, "link": os.link, "symlink": os.symlink}[how](validation[1], training[3])
    with pytest.raises(BadInput, match=rf"{training[3].name} is the evaluation image {SECOND}\.jpg"):
        label_maps.refuse_leak(training, validation)
