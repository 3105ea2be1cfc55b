"""BibTeX of methods, data sets and the board."""

from __future__ import annotations

from vitptq.bench import catalogue
from vitptq.bench.board.bibliography import DATA_SETS, bibliography, entries, keys_of


def test_every_method_with_a_paper_has_an_entry():
    cards = [card for card in catalogue.method_cards().values() if card.category != "float" and card.paper]
    missing = [card.name for card in cards if not keys_of(card) or not set(keys_of(card)) <= set(entries())]
    assert not missing


def test_every_entry_is_read_whole():
    for key, entry in entries().items():
        assert entry.startswith("@")
        assert entry.count("{") == entry.count("}"), key
        assert "title = " in entry


def test_bibliography_has_methods_data_and_the_board_once():
    cards = catalogue.method_cards()
    text = bibliography([cards["repq-vit"], cards["repq-vit"], cards["ptq4vit"]], ["coco"], "0123456", 2026)
    assert text.count("@") == 4
    assert DATA_SETS["coco"] in text
    assert "Version 0123456" in text
