"""The published numbers by model."""

from vitptq.bench.board.board import Board
from vitptq.bench.results import claim_names, claims
from vitptq.bench.website.claim_book import WORDS, ClaimBook


def test_every_claim_is_of_one_model_and_has_one_verdict():
    book = ClaimBook.of(claims.read(), claim_names.read(claims.FOLDER), Board.from_records([], {}))

    assert sum(len(model.verdicts) for model in book.models) == len(book.verdicts) == len(claims.read())
    assert sum(book.count(word) for word in WORDS) == len(book.verdicts)
    assert book.count("reproduced") == 0
