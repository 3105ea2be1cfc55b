import json

import pytest

from tests.bench.record_factory import make_card
from vitptq.bench import catalogue
from vitptq.bench.website.parity_tests import FOLDER, parity_test

SOURCE = '"""Ours beside theirs."""\n\n\ndef helper(): ...\n\n\ndef test_scales_are_equal(): ...\n'


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / FOLDER
    (folder / "data").mkdir(parents=True)
    (folder / "test_ours.py").write_text(SOURCE)
    (folder.parent / "secret.py").write_text(SOURCE)
    return tmp_path


def found(checkout, name="test_ours.py"):
    return parity_test(make_card("minmax", parity_test=f"{FOLDER}/{name}" if name else ""), checkout)


def test_it_tells_what_is_tested(checkout):
    test = found(checkout)

    assert (test.summary, test.names, test.source) == ("Ours beside theirs.", ("test_scales_are_equal",), SOURCE)


def test_it_names_the_official_code_at_its_commit(checkout):
    origin = {"files": {"ours.npz": {"repository": "a/b", "commit": "c0ffee"}}}
    (checkout / FOLDER / "data" / "manifest.json").write_text(json.dumps(origin))

    assert found(checkout).official == "https://github.com/a/b/tree/c0ffee"


def test_without_a_manifest_the_official_code_is_not_known(checkout):
    assert found(checkout).official == ""


@pytest.mark.parametrize("name", ["", "test_absent.py", "../secret.py"])
def test_only_a_parity_test_that_is_there_is_shown(checkout, name):
    assert found(checkout, name) is None


def test_every_parity_test_that_an_adapter_names_is_there():
    named = [card for card in catalogue.method_cards().values() if card.parity_test]

    assert len(named) >= 12
    assert [card.name for card in named if parity_test(card) is None] == []
