"""A paper's own table."""

from __future__ import annotations

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.board.paper_table.published import published_table
from vitptq.bench.errors import UnknownName
from vitptq.bench.results import claim_names, claims

VIT_S = "vit_small_patch16_224.augreg_in21k_ft_in1k"
CLAIMS = claims.read()
NAMES = claim_names.read(claims.FOLDER)


def values(table, section, label):
    lines = next(found for found in table.sections if found.title == section).lines
    return dict(zip(table.models, next(line for line in lines if line.label == label).values, strict=True))


def test_table_of_a_paper_stands_as_it_was_printed():
    table = published_table("aphq-vit:table1", CLAIMS, NAMES)
    assert [section.title for section in table.sections] == ["W4A4", "W3A3"]
    repq = values(table, "W4A4", "RepQ-ViT")["vit_small_patch16_224"]
    assert (repq.score, repq.claimed) == (None, (65.05,))


def test_measured_score_stands_beside_the_published_one():
    cell = make_cell(task="imagenet", edition="full", model=VIT_S, method="repq-vit", bits="W4A4")
    table = published_table("aphq-vit:table1", CLAIMS, NAMES, board_of(make_record(cell, score=64.9)))
    repq = values(table, "W4A4", "RepQ-ViT")["vit_small_patch16_224"]
    assert (repq.score, repq.claimed) == (64.9, (65.05,))


def test_detection_table_has_box_and_mask_of_every_detector():
    table = published_table("aphq-vit:table2", CLAIMS, NAMES)
    assert len(table.metrics) == 2
    assert any(len(value.claimed) == 1 for value in table.values)


def test_unknown_table_lists_those_there_are():
    with pytest.raises(UnknownName, match="aphq-vit:table1"):
        published_table("aphq-vit:tabel1", CLAIMS, NAMES)
