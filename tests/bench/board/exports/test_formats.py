import pytest

from tests.bench.record_factory import realistic_board
from vitptq.bench.board.exports.formats import FORMATS, render
from vitptq.bench.errors import UnknownName


@pytest.fixture(scope="module")
def board():
    return realistic_board()


def test_an_unknown_format_lists_the_known_ones(board):
    with pytest.raises(UnknownName, match="csv, json, latex, markdown, table"):
        render(board, "xml")


@pytest.mark.parametrize("name", FORMATS)
def test_every_export_ends_with_a_newline(board, name):
    assert render(board, name).endswith("\n")
