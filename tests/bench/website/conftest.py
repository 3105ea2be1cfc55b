"""The site of a realistic board, built once."""

import pytest

from tests.bench.record_factory import realistic_board
from tests.bench.site_reader import TEMPLATES, pages
from vitptq.bench.website.build import build


@pytest.fixture(scope="session")
def board():
    return realistic_board()


@pytest.fixture(scope="session")
def folder(board, tmp_path_factory):
    return build(board, tmp_path_factory.mktemp("site") / "site", templates=TEMPLATES, version="0.1.0").parent


@pytest.fixture(scope="session")
def site(folder):
    return pages(folder)
