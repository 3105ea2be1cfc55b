"""What the claims' words mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.results.test_claims import ROW, written
from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.results import claim_names, claims
from vitptq.bench.results.claims import Claim

NAMES = """
[methods]
"RepQ-ViT" = { method = "repq-vit" }
"RepQ-ViT, softmax 4 bits" = { method = "repq-vit", parameters = { zero_code = "last" } }
[not_implemented]
"ERQ" = "no adapter"
[models.imagenet]
deit_tiny_patch16_224 = ["near", "far"]
[no_model]
"mobile_former_26m" = "no checkpoint"
"""


@pytest.fixture
def names(tmp_path: Path) -> claim_names.Names:
    (tmp_path / claim_names.FILE).write_text(NAMES)
    return claim_names.read(tmp_path)


def claim(tmp_path: Path, old: str = "", new: str = "") -> Claim:
    return claims.read(written(tmp_path, ROW.replace(old, new, 1)))[0]


def card(name: str, top1: float) -> ModelCard:
    return ModelCard(name, "vit", name, {"top1": top1}, 0.1)


def test_the_width_of_the_softmax_may_have_a_meaning_of_its_own(names: claim_names.Names, tmp_path: Path) -> None:
    plain, four = claim(tmp_path), claim(tmp_path, ",4,4,,", ",4,4,4,")
    assert [names.adapter(c).parameters for c in (plain, four)] == [{}, {"zero_code": "last"}]  # type: ignore[union-attr]


def test_of_several_checkpoints_the_nearest_float_score_counts(names: claim_names.Names, tmp_path: Path) -> None:
    cards = {"far": card("far", 74.0), "near": card("near", 72.2)}
    assert names.model(claim(tmp_path), cards) == "near"
    assert names.model(claim(tmp_path, "72.21", "73.9"), cards) == "far"
    assert names.model(claim(tmp_path), {"far": card("far", 74.0)}) == "far"


def test_a_limit_may_concern_one_family_of_models() -> None:
    limit = claim_names.Limit(methods=["fq-vit"], tasks=["imagenet"], families=["hybrid"], why="no form")
    hybrid = ModelCard("m", "mobilevit", "m", {"top1": 70.0}, 0.1, groups=("hybrid",))
    assert limit.holds("fq-vit", "imagenet", hybrid)
    assert not limit.holds("fq-vit", "imagenet", card("v", 70.0))
    assert not limit.holds("fq-vit", "coco", hybrid)


def test_words_without_a_meaning_are_named(names: claim_names.Names, tmp_path: Path) -> None:
    known = claim(tmp_path, "RepQ-ViT", "ERQ")
    found = names.unknown_words([known, claim(tmp_path, "RepQ-ViT", "NewQ"), claim(tmp_path, "deit_tiny", "deit_huge")])
    assert found == [
        'names.toml says nothing about the method "NewQ"',
        'names.toml says nothing about the model "deit_huge_patch16_224"',
    ]


def test_bad_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"names.toml is not there"):
        claim_names.read(tmp_path)
    (tmp_path / claim_names.FILE).write_text("[methods")
    with pytest.raises(BadInput, match="is not valid TOML"):
        claim_names.read(tmp_path)
    (tmp_path / claim_names.FILE).write_text(NAMES + "\n[other]\n")
    with pytest.raises(BadInput, match="other: Extra inputs are not permitted"):
        claim_names.read(tmp_path)
