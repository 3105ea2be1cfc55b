import pytest

from tests.bench.record_factory import make_cards, make_cell, make_record
from tests.bench.site_reader import build_site
from vitptq.bench.board.board import Board
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.record import EvidenceRef
from vitptq.bench.website.paths import run_path


def evidence_record(content, file="a.npz", **changes):
    cell = make_cell(**changes)
    return make_record(cell, evidence=EvidenceRef(file=file, sha256=sha256(content), bytes=len(content)))


def test_evidence_that_matches_its_record_is_published_beside_the_pages(tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.npz").write_bytes(b"right")
    board = Board.from_records([evidence_record(b"right")], make_cards())
    site = build_site(board, tmp_path / "out", folders=Folders([tmp_path]))

    assert (tmp_path / "out" / "evidence" / "a.npz").read_bytes() == b"right"
    assert "../evidence/a.npz" in site[run_path(board.rows[0])].values("href")


@pytest.mark.parametrize(
    ("file", "said"), [("a.npz", "differs"), ("gone.npz", "missing"), ("../secret", "missing"), ("..", "missing")]
)
def test_evidence_that_does_not_match_is_said_and_not_published(file, said, tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.npz").write_bytes(b"wrong")
    (tmp_path / "secret").write_bytes(b"right")
    board = Board.from_records([evidence_record(b"right", file=file)], make_cards())
    site = build_site(board, tmp_path / "out", folders=Folders([tmp_path]))

    assert said in site[run_path(board.rows[0])].text
    assert not (tmp_path / "out" / "evidence").exists()
