"""Calibration lists as files: every list is what its draw gives, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput
from vitptq.tasks.classification import imagenet_lists
from vitptq.tasks.detection import coco_lists
from vitptq.tasks.published_lists import SEEDS, SIZE, PublishedLists
from vitptq.tasks.segmentation import ade20k_lists

LISTS = pytest.mark.parametrize("lists", [imagenet_lists.LISTS, coco_lists.LISTS, ade20k_lists.LISTS])


@LISTS
def test_written_files_are_the_published_ones(lists: PublishedLists, tmp_path: Path) -> None:
    lists.write(tmp_path)
    for seed in SEEDS:
        assert (tmp_path / lists.path(seed).name).read_bytes() == lists.path(seed).read_bytes()


@LISTS
def test_rows_are_distinct_and_differ_by_seed(lists: PublishedLists) -> None:
    assert all(len(set(lists.read(seed))) == len(lists.read(seed)) == SIZE for seed in SEEDS)
    assert len({lists.read(seed)[:32] for seed in SEEDS}) == len(SEEDS)


@LISTS
def test_a_seed_without_a_list_is_refused_with_the_published_ones(lists: PublishedLists) -> None:
    with pytest.raises(BadInput, match="no calibration list is published for seed 5; published: 0, 1, 2, 3, 4"):
        lists.names(5)


def test_names_are_the_numbers_of_a_row() -> None:
    label, position = imagenet_lists.LISTS.read(0)[7]
    assert imagenet_lists.LISTS.names(0)[7] == f"{label}/{position}"
    assert coco_lists.LISTS.names(0)[7] == str(coco_lists.LISTS.read(0)[7][0])
