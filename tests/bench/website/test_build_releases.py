"""Dated releases: made once, kept by every later build."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.record_factory import make_cards, make_record
from tests.bench.site_reader import TEMPLATES, contents
from vitptq.bench.board.board import Board
from vitptq.bench.errors import BadInput
from vitptq.bench.website.build import build
from vitptq.bench.website.build_releases import releases


def site(out: Path, score: float, release: str = "") -> Path:
    board = Board.from_records([make_record(score=score)], make_cards())
    build(board, out, templates=TEMPLATES, version="1", release=release)
    return out


def test_release_stays_as_it_was_when_the_site_is_built_again(tmp_path: Path) -> None:
    out = site(tmp_path / "out", 80.0, "2026-11-28")
    before = contents(out / "releases" / "2026-11-28")
    site(out, 81.25)
    assert contents(out / "releases" / "2026-11-28") == before
    assert b"80.00" in before["index.html"]
    assert "81.25" in (out / "index.html").read_text()


def test_every_release_is_a_whole_site_without_the_others(tmp_path: Path) -> None:
    site(tmp_path / "out", 80.0, "2026-11-28")
    out = site(tmp_path / "out", 81.0, "2026-12-01")
    assert releases(out) == ("2026-12-01", "2026-11-28")
    newest = out / "releases" / "2026-12-01"
    assert not (newest / "releases").exists()
    assert {path.name for path in newest.iterdir()} >= {"index.html", "data.json", "runs", "tables", "methods"}


def test_release_is_never_made_again(tmp_path: Path) -> None:
    out = site(tmp_path / "out", 80.0, "2026-11-28")
    with pytest.raises(BadInput, match="never changes"):
        site(out, 81.0, "2026-11-28")


@pytest.mark.parametrize("name", ["latest", "2026-13-01", "../2026-11-28", "2026-11-28/x"])
def test_release_is_named_by_its_date(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="no date"):
        site(tmp_path / "out", 80.0, name)
