from hypothesis import given
from hypothesis import strategies as st

from vitptq.bench.board.exports.words import plain


@given(st.text())
def test_plain_text_is_one_printable_line(text):
    assert all(c.isprintable() or c == "�" or not c.isascii() for c in plain(text))
    assert len(plain(text).splitlines()) <= 1
