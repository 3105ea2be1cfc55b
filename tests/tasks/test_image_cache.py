"""Decoded images on disk: whole, damaged, interrupted, outdated, and shared by processes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tasks.numbered_images import Numbers, UnreadableAt, numbered
from vitptq.bench.errors import BadInput
from vitptq.tasks import image_cache
from vitptq.tasks.decoding import PART, Decoded
from vitptq.tasks.image_cache import ImageCache

COUNT = 3 * PART + 5


@pytest.fixture(autouse=True)
def _as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "_CHECKED", set())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def ignore(_done: int, _total: int) -> None:
    pass


def filled(cache: Path, data: Path, *, length: int | None = None, way: str = "plain") -> tuple[ImageCache, list[int]]:
    """Return a cache and which images were decoded for it, as a new process finds them."""
    image_cache._CHECKED.clear()
    reader = Numbers()
    found = ImageCache(cache, numbered(data, COUNT, reader=reader, way=way), length).fill(ignore)
    return found, reader.asked


def numbers(images: ImageCache) -> list[int]:
    return [int(image.arrays["pixels"][-1, -1]) for image in images]


def test_images_are_decoded_once_and_come_in_order(cache: Path, data: Path) -> None:
    first, asked = filled(cache, data)
    assert numbers(first) == asked == list(range(COUNT))
    again, asked = filled(cache, data)
    assert (numbers(again), asked) == (list(range(COUNT)), [])
    assert again.digest == first.digest
    assert len(again) == COUNT
    assert again[PART].facts == {"number": PART}
    assert [image.facts["number"] for image in again[-2:]] == [COUNT - 2, COUNT - 1]


def test_damaged_part_is_decoded_again(cache: Path, data: Path) -> None:
    first, _ = filled(cache, data)
    content = bytearray(first.pixels.read_bytes())
    content[len(content) // 2] ^= 1
    first.pixels.write_bytes(content)
    mended, asked = filled(cache, data)
    assert asked == list(range(PART, 2 * PART))
    assert numbers(mended) == list(range(COUNT))
    assert mended.digest == first.digest
    assert filled(cache, data)[1] == []


@pytest.mark.parametrize("damage", ["cut", "no journal", "damaged journal", "no pixels"])
def test_whatever_is_lost_is_decoded_again(cache: Path, data: Path, damage: str) -> None:
    first, _ = filled(cache, data)
    lines = first.journal.read_bytes().splitlines(keepends=True)
    if damage == "cut":
        first.pixels.write_bytes(first.pixels.read_bytes()[:-1])
    elif damage == "no journal":
        first.journal.unlink()
    elif damage == "damaged journal":
        first.journal.write_bytes(b"".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])
    else:
        first.pixels.unlink()
    mended, asked = filled(cache, data)
    assert numbers(mended) == list(range(COUNT))
    assert asked == list(range(3 * PART, COUNT) if damage in ("cut", "damaged journal") else range(COUNT))
    assert filled(cache, data)[1] == []


def test_layout_that_was_changed_counts_as_damage(cache: Path, data: Path) -> None:
    first, _ = filled(cache, data)
    first.journal.write_text(first.journal.read_text().replace('"number":3}', '"number":4}'))
    mended, asked = filled(cache, data)
    assert asked == list(range(PART))
    assert mended[3].facts == {"number": 3}


def test_interrupted_decoding_goes_on_where_it_was(cache: Path, data: Path) -> None:
    with pytest.raises(BadInput, match="image 40 is not readable"):
        ImageCache(cache, numbered(data, COUNT, reader=UnreadableAt(40))).fill(ignore)
    found, asked = filled(cache, data)
    assert asked == list(range(2 * PART, COUNT))
    assert numbers(found) == list(range(COUNT))


def test_longer_calibration_set_adds_to_a_shorter_one(cache: Path, data: Path) -> None:
    short, asked = filled(cache, data, length=3)
    assert (numbers(short), asked) == ([0, 1, 2], [0, 1, 2])
    longer, asked = filled(cache, data, length=PART + 1)
    assert numbers(longer) == asked == list(range(PART + 1))
    _, asked = filled(cache, data, length=2 * PART)
    assert asked == list(range(PART, 2 * PART))
    assert (numbers(filled(cache, data, length=2)[0]), filled(cache, data, length=2)[1]) == ([0, 1], [])


def test_part_with_a_changed_file_is_decoded_again(cache: Path, data: Path) -> None:
    first, _ = filled(cache, data)
    (data / "7.bin").write_bytes(b"another image")
    other, asked = filled(cache, data)
    assert asked == list(range(PART))
    assert numbers(first) == numbers(other) == list(range(COUNT))  # what is mapped stays
    assert filled(cache, data)[1] == []


def test_outdated_images_go_once_they_are_most_of_what_is_there(cache: Path, data: Path) -> None:
    first, _ = filled(cache, data)
    size = first.pixels.stat().st_size
    for number in range(2 * PART + 1):
        (data / f"{number}.bin").write_bytes(b"another image")
    other, asked = filled(cache, data)
    assert asked == list(range(COUNT))
    assert other.pixels.stat().st_size == size
    assert numbers(first) == numbers(other) == list(range(COUNT))


def test_longer_set_stays_when_a_shorter_one_is_asked_for_without_its_other_files(cache: Path, data: Path) -> None:
    filled(cache, data)
    source = numbered(data, COUNT)
    (data / "9.bin").unlink()
    reader = Numbers()
    image_cache._CHECKED.clear()
    short = ImageCache(cache, replace(source, reader=lambda: reader), 3).fill(ignore)
    assert (numbers(short), reader.asked) == ([0, 1, 2], [0, 1, 2])


def test_another_way_of_reading_has_a_folder_of_its_own(cache: Path, data: Path) -> None:
    plain, _ = filled(cache, data)
    other, _ = filled(cache, data, way="another crop")
    assert plain.folder != other.folder
    assert filled(cache, data)[1] == []


def test_progress_counts_images(cache: Path, data: Path) -> None:
    seen: list[tuple[int, int]] = []
    ImageCache(cache, numbered(data, COUNT)).fill(lambda *step: seen.append(step))
    assert seen == [(PART, COUNT), (2 * PART, COUNT), (3 * PART, COUNT), (COUNT, COUNT)]


def test_too_small_a_disk_is_named_before_anything_is_decoded(
    cache: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=100))
    with pytest.raises(BadInput, match=r"need about 0\.0 GB in .*VITPTQ_CACHE, or run with --no-cache"):
        filled(cache, data)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path, data: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="decoded images cannot be kept in .*: Not a directory; .*--no-cache"):
        filled(tmp_path / "file", data)


def test_images_are_not_written_to(cache: Path, data: Path) -> None:
    image: Decoded = filled(cache, data)[0][0]
    with pytest.raises(ValueError, match="read-only"):
        image.arrays["pixels"][0, 0] = 1
