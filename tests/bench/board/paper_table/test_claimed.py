"""Published numbers beside measured ones."""

from __future__ import annotations

from vitptq.bench.board.paper_table.claimed import Claimed
from vitptq.bench.results import claim_names, claims, suites
from vitptq.bench.results.cell import Cell

VIT_S = "vit_small_patch16_224.augreg_in21k_ft_in1k"
CLAIMED = Claimed.among(claims.read(), claim_names.read(claims.FOLDER))


def full_cell(method: str, model: str, bits: str) -> Cell:
    return next(
        cell for cell in suites.load("imagenet") if (cell.method, cell.model, cell.bits) == (method, model, bits)
    )


def test_number_of_the_methods_own_paper_goes_before_reprints():
    cell = full_cell("repq-vit", VIT_S, "W4A4")
    assert {claim.kind for claim in CLAIMED.claims(cell, "top1")} == {"original"}
    assert CLAIMED.beside(cell, "top1") == (65.05,)


def test_contradicting_numbers_are_all_there():
    cell = full_cell("qdrop", VIT_S, "W4A4")
    assert CLAIMED.beside(cell, "top1") == (17.77, 21.24, 67.62, 71.84)


def test_embedded_cell_never_has_a_published_number_beside_it():
    cell = full_cell("repq-vit", VIT_S, "W4A4").model_copy(update={"edition": "mini"})
    assert CLAIMED.beside(cell, "top1") == ()
