import pytest

from vitptq.bench.website.formatting import fixed, giga, link, loss_class, paragraphs, tail


@pytest.mark.parametrize("text", ["see https://example.org/a?b=1.", "https://example.org/a?b=1"])
def test_a_reference_links_to_its_https_address(text):
    assert link(text) == "https://example.org/a?b=1"


@pytest.mark.parametrize("text", ["http://example.org", "javascript:alert(1)//https:", "Li et al., 2023", ""])
def test_a_reference_without_an_https_address_has_no_link(text):
    assert link(text) is None


def test_numbers_have_a_true_minus_and_no_minus_zero():
    assert [fixed(x) for x in (-1.239, -0.004, None)] == ["−1.24", "0.00", "–"]
    assert giga(33_792_000_000) == "33.79" and giga(None) == "–"


def test_a_cell_is_tinted_by_what_was_lost():
    assert [loss_class(x) for x in (None, 2.0, -0.99, -1.0, -3.0, -10.0, -30.0)] == [
        "loss-0", "loss-0", "loss-0", "loss-1", "loss-2", "loss-3", "loss-4",
    ]  # fmt: skip


def test_a_traceback_keeps_its_end_and_a_docstring_its_paragraphs():
    assert tail("\n".join(map(str, range(30)))).splitlines() == [str(i) for i in range(18, 30)]
    assert paragraphs("One\nline.\n \n  Another.  ") == ["One line.", "Another."]
