"""Which claims the full suites measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.results.test_claims import ROW, written
from vitptq.bench import registry
from vitptq.bench.results import claim_names, claims, coverage, suites
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.claim_names import Adapter, Names

FOLDER = Path(__file__).parents[3] / "results" / "claims"

HYBRID_ROW = "FQ-ViT,mobilevit_xxs,imagenet,,8,8,,top1,66.5,68.9,reprint,Some paper,,Table 2,https://a.org/b"
TABLES = {
    "aphq-vit-imagenet": ("APHQ-ViT (CVPR25)", {"T1", "README Results"}),
    "aphq-vit-coco": ("APHQ-ViT (CVPR25)", {"T2", "Det README Results"}),
    "repq-vit-imagenet": ("RepQ-ViT (ICCV23)", {"cls README"}),
    "repq-vit-coco": ("RepQ-ViT (ICCV23)", {"det README"}),
    "fq-vit-imagenet": ("FQ-ViT (IJCAI22)", {"README Results (W/A/Attn 8/8/8)", "README Results (W/A/Attn 8/8/4)"}),
    "is-vit-coco": ("I&S-ViT (TPAMI25)", {"T2"}),
    "adalog-imagenet": ("AdaLog (ECCV24)", {"README Results"}),
}
"""Suites of papers whose tables the claims hold completely."""


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return coverage.full_cells()


@pytest.fixture(scope="module")
def names() -> Names:
    return claim_names.read(FOLDER)


def test_full_suites_measure_what_the_methods_here_claim(cells: list[Cell], names: Names) -> None:
    found = coverage.coverage(claims.read(FOLDER), names, cells)
    implemented = [c for c in found if c.implemented]
    able = [c for c in implemented if "cannot do it yet" not in c.missing]
    assert coverage.share(able) > 0.95
    assert coverage.share(found) > 0.5  # the rest has no adapter
    for task in ("coco", "ade20k"):
        assert coverage.share([c for c in able if c.claim.task == task]) == 1.0


def test_names_are_those_of_adapters_parameters_and_models(names: Names) -> None:
    assert coverage.problems(claims.read(FOLDER), names) == []


def test_wrong_names_are_found(names: Names) -> None:
    adapters = {"A": Adapter(method="minmaxx"), "B": Adapter(method="minmax", parameters={"x": 1})}
    wrong = names.model_copy(update={"methods": adapters, "models": {"imagenet": {"word": ["no_such_model"]}}})
    found = "\n".join(coverage.problems([], wrong))
    for part in ('unknown method "minmaxx"', "minmax has no parameter x", 'imagenet has no model "no_such_model"'):
        assert part in found


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("RepQ-ViT,", "RepQ-ViT,", ""),
        ("RepQ-ViT,", "PD-Quant,", "method PD-Quant: no adapter"),
        ("deit_tiny_patch16_224", "mobile_former_26m", "model mobile_former_26m: no checkpoint in timm"),
        (",4,4,", ",4.7,5.9,", "bits 4.7/5.9: mixed precision, no whole average"),
        (",4,4,", ",2,32,", "bits W2A32 of repq-vit (activations in float): no suite has it"),
        ("RepQ-ViT,", "AdaLog (calib),", ""),
        (ROW, HYBRID_ROW, "method fq-vit cannot do it yet: the form that quantises everything"),
        ("RepQ-ViT,", '"Brevitas PTQ best of sweep, backend=generic",', "the best of a sweep"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, cells: list[Cell], names: Names, old: str, new: str, why: str
) -> None:
    (found,) = coverage.coverage(claims.read(written(tmp_path, ROW.replace(old, new, 1))), names, cells)
    assert (found.missing == "") == (why == "")
    assert why in found.missing


def test_other_parameters_are_another_claim(tmp_path: Path, cells: list[Cell], names: Names) -> None:
    rows = claims.read(written(tmp_path, ROW.replace("RepQ-ViT,", "AdaLog (calib),", 1)))
    trained = [cell for cell in cells if cell.parameters.get("reconstruct") is not False]
    (found,) = coverage.coverage(rows, names, trained)
    assert "no suite has it with reconstruct=false" in found.missing


def test_report_gives_shares_and_reasons(tmp_path: Path, cells: list[Cell], names: Names) -> None:
    rows = claims.read(
        written(tmp_path, ROW, ROW.replace("RepQ-ViT", "IGQ-ViT", 1), ROW.replace("RepQ-ViT", "PD-Quant", 1))
    )
    lines = coverage.report(coverage.coverage(rows, names, cells))
    assert lines[1].split() == ["imagenet", "3", "1", "(33.3", "%)", "1", "(100.0", "%)"]
    assert "    1  imagenet  method IGQ-ViT: no adapter" in lines


def test_every_paper_suite_belongs_to_a_full_suite() -> None:
    full = {path for name in coverage.SUITES for path in suites.files_of(name)}
    papers = {suites.path_of(name) for name in suites.names() if name.startswith("papers/")}
    assert papers and papers <= full


@pytest.mark.parametrize("suite", TABLES)
def test_a_papers_suite_measures_exactly_what_its_table_prints(suite: str, names: Names) -> None:
    source, tables = TABLES[suite]
    rows = [c for c in claims.read(FOLDER) if c.reported_in == source and c.table in tables]
    asked = [cell for cell in suites.load(f"papers/{suite}") if not cell.is_float]
    able = names.model_copy(update={"unsupported": []})
    found = [c for c in coverage.coverage(rows, able, asked) if c.implemented]
    assert found and not [c.missing for c in found if c.missing]
    cards = registry.task(asked[0].task, "full").models()
    printed = {(names.model(c.claim, cards), names.adapter(c.claim).method, c.claim.bits) for c in found}  # type: ignore[union-attr]
    assert {(cell.model, cell.method, cell.bits) for cell in asked} == printed
    assert {cell.track for cell in asked} == {"published"}


def test_a_word_may_stand_for_a_spec_that_widths_do_not_say(cells: list[Cell], names: Names) -> None:
    found = coverage.coverage(claims.read(FOLDER), names, cells)
    (mixed_rank,) = [c for c in found if c.claim.method == "Mixed-Rank (Azizi; 60 % fewer parameters)"]
    assert not mixed_rank.missing
    elsewhere = [cell for cell in cells if cell.bits != "W32A32+lowrank60"]
    assert "W32A32+lowrank60" in coverage.coverage([mixed_rank.claim], names, elsewhere)[0].missing


def test_cells_of_claims_are_those_that_measure_one(tmp_path: Path, cells: list[Cell], names: Names) -> None:
    (claim,) = claims.read(written(tmp_path, ROW))
    found = coverage.claimed([claim], names, cells)
    adapter = names.adapter(claim)
    assert adapter is not None
    chosen = [cell for cell in cells if cell.id in found]
    assert chosen
    assert {(cell.task, cell.method, cell.bits) for cell in chosen} == {(claim.task, adapter.method, claim.bits)}
    assert len({cell.model for cell in chosen}) == 1


def test_embedded_cells_measure_no_claim(names: Names) -> None:
    assert coverage.claimed(claims.read(FOLDER), names, suites.load("quick")) == set()
