"""What a process keeps of decoded images: mapped from disk, or in memory as far as there is room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.numbered_images import HEIGHT, WIDTH, Numbers, numbered
from vitptq.tasks import kept_images
from vitptq.tasks.image_cache import ImageCache


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    with kept_images.set_aside():
        yield


def ignore(_done: int, _total: int) -> None:
    pass


def test_images_are_the_same_object_until_a_file_changes(tmp_path: Path) -> None:
    def kept() -> object:
        return kept_images.kept(numbered(tmp_path, 3), tmp_path / "cache", 0, ignore)

    first = kept()
    assert isinstance(first, ImageCache)
    assert kept() is first
    (tmp_path / "1.bin").write_bytes(b"another")
    assert kept() is not first
    second = kept()
    kept_images.drop()
    assert kept() is not second


def test_without_a_folder_those_are_kept_that_fit_into_memory(tmp_path: Path) -> None:
    reader = Numbers()
    images = kept_images.kept(numbered(tmp_path, 20, reader=reader), None, 5 * HEIGHT * WIDTH + 1, ignore)
    assert set(range(6)) <= set(reader.asked)
    for _ in range(2):
        reader.asked.clear()
        assert [image.facts["number"] for image in images] == list(range(20))
        assert reader.asked == list(range(5, 20))


def test_images_that_are_set_aside_come_back(tmp_path: Path) -> None:
    first = kept_images.kept(numbered(tmp_path, 3), None, 1000, ignore)
    with kept_images.set_aside():
        assert kept_images._KEPT == {}
    assert kept_images.kept(numbered(tmp_path, 3), None, 1000, ignore) is first
