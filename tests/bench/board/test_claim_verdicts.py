"""Verdicts on published numbers."""

from __future__ import annotations

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import make_cell, make_gate, make_record
from vitptq.bench.board.claim_verdicts import disagreements, verdicts
from vitptq.bench.results import claim_names, claims

CLAIMS = claims.read()
NAMES = claim_names.read(claims.FOLDER)
VIT_S = "vit_small_patch16_224.augreg_in21k_ft_in1k"


def claim(method="RepQ-ViT", model="vit_small_patch16_224", bits="W4A4", kind="original"):
    return next(c for c in CLAIMS if (c.method, c.model, c.bits, c.kind) == (method, model, bits, kind))


def record(score, *, track="published", float_score=81.39, edition="full", **changes):
    cell = make_cell(task="imagenet", edition=edition, model=VIT_S, method="repq-vit", track=track, **changes)
    return make_record(cell, score=score, gate=make_gate(measured=float_score))


def verdict(*records):
    (found,) = verdicts([claim()], NAMES, board_of(*records) if records else None)
    return found


def test_number_inside_the_measured_interval_is_reproduced():
    found = verdict(record(64.9))
    assert found.word == "reproduced"
    assert found.delta == pytest.approx(-0.15)


def test_number_outside_the_measured_interval_is_not_reproduced():
    assert verdict(record(50.0)).word == "not reproduced"


def test_another_float_score_is_named_and_nothing_is_compared():
    found = verdict(record(64.9, float_score=80.2))
    assert found.word == "not comparable"
    assert "another checkpoint or transform" in found.why


def test_other_settings_than_the_papers_are_named():
    found = verdict(record(64.9, track="standard", calibration_size=128))
    assert found.word == "not comparable"
    assert found.why.startswith("32 calibration images, here 128")


def test_embedded_score_says_nothing_about_a_claim():
    assert verdict(record(65.05, edition="mini")).word == "not run"


def test_without_records_every_claim_has_a_reason():
    found = verdicts(CLAIMS, NAMES)
    assert {each.word for each in found} == {"not run"}
    assert all(each.why for each in found)


def test_contradicting_sources_are_found_with_their_range():
    qdrop = [
        each
        for each in disagreements(CLAIMS)
        if (each.claims[0].method, each.claims[0].model, each.claims[0].bits)
        == ("QDrop", "vit_small_patch16_224", "W4A4")
    ]
    assert {c.value for c in qdrop[0].claims} == {17.77, 21.24, 67.62, 71.84}
    assert qdrop[0].range == pytest.approx(54.07)
