"""The loop that decodes images: order, worker processes, errors, and what is handed over in one piece."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tasks.numbered_images import UnreadableAt, numbered
from vitptq.bench.errors import BadInput
from vitptq.tasks.decoding import PART, Decoded, decoded, made_ahead, packed, unpacked

# Python 3.12 warns of forking beside torch's threads; torch's loader does it.
forking = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@forking
@pytest.mark.parametrize("decoders", [0, 2])
def test_images_come_in_order_and_spare_the_global_generator(tmp_path: Path, decoders: int) -> None:
    source = numbered(tmp_path, 3 * PART + 1, decoders=decoders)
    before = torch.random.get_rng_state()
    found = list(decoded(source))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [int(image.arrays["pixels"][0, 0]) for image in found] == list(range(source.count))
    assert [image.facts for image in found[:2]] == [{"number": 0}, {"number": 1}]


def test_any_range_of_images_can_be_decoded(tmp_path: Path) -> None:
    found = decoded(numbered(tmp_path, 50), 5, 40)
    assert [image.facts["number"] for image in found] == list(range(5, 40))


@forking
@pytest.mark.parametrize("decoders", [0, 2])
def test_error_of_an_unreadable_image_arrives_without_a_traceback(tmp_path: Path, decoders: int) -> None:
    source = numbered(tmp_path, 2 * PART, decoders=decoders, reader=UnreadableAt(PART + 3))
    with pytest.raises(BadInput, match="^image 19 is not readable$"):
        list(decoded(source))


def test_images_of_any_shapes_are_what_they_were_after_they_were_one_piece() -> None:
    random.seed(0)
    shapes = [(3, random.randrange(1, 9), random.randrange(1, 9)) for _ in range(7)]
    images = [
        Decoded({"pixels": np.full(shape, number, np.uint8), "labels": np.zeros(shape[1:], np.uint8)}, {"id": number})
        for number, shape in enumerate(shapes)
    ]
    part = packed(images)
    for before, after in zip(images, unpacked(part.content.numpy(), part.layout), strict=True):
        assert before.facts == after.facts
        assert all(np.array_equal(before.arrays[name], after.arrays[name]) for name in ("pixels", "labels"))


def test_state_changes_with_a_files_time_size_and_name(tmp_path: Path) -> None:
    file = tmp_path / "0.bin"
    states = {numbered(tmp_path, 1).state}
    os.utime(file, ns=(1, 1))
    states.add(numbered(tmp_path, 1).state)
    file.write_bytes(b"longer than before")
    os.utime(file, ns=(1, 1))
    states.add(numbered(tmp_path, 1).state)
    states.add(numbered(tmp_path, 2).state)
    assert len(states) == 4


def test_items_are_made_ahead_in_order_and_errors_come_through() -> None:
    def items() -> object:
        yield from range(3)
        raise BadInput("the fourth")

    found = made_ahead(iter(items()))  # type: ignore[call-overload]
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BadInput, match="the fourth"):
        next(found)
