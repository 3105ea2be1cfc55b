import csv
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.bench.record_factory import (
    make_cards,
    make_cell,
    make_record,
)
from tests.bench.site_reader import ROOT, TEMPLATES, build_site, contents
from vitptq.bench.board.board import Board
from vitptq.bench.errors import BadInput
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.store import Store
from vitptq.bench.website import build as website
from vitptq.bench.website.build import build

BUILD_TWICE = """
import sys
from pathlib import Path
from vitptq.bench.website.build import build
from tests.bench.record_factory import realistic_board
build(realistic_board(), Path(sys.argv[1]), templates=Path(sys.argv[2]), version="0.1.0")
"""


def test_the_path_of_the_index_page_is_returned(board, tmp_path):
    assert build(board, tmp_path / "out", templates=TEMPLATES, version="1") == tmp_path / "out" / "index.html"


def test_data_of_everything_lies_beside_the_pages(board, tmp_path):
    folder = build(board, tmp_path / "out", templates=TEMPLATES, version="1").parent
    document = json.loads((folder / "data.json").read_text())
    lines = list(csv.DictReader(io.StringIO((folder / "data.csv").read_text())))

    assert len(document["rows"]) == len(lines) == len(board.rows)


def test_two_builds_give_the_same_bytes(tmp_path):
    running = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        work = tmp_path / f"cwd-{seed}"
        work.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", BUILD_TWICE, str(tmp_path / seed), str(TEMPLATES)]
        running.append(subprocess.Popen(command, cwd=work, env=environment))
    assert [process.wait() for process in running] == [0, 0]

    first, second = (contents(tmp_path / seed) for seed in ("1", "2"))
    assert first == second
    assert len(first) > 80


def test_a_build_replaces_the_earlier_one_as_a_whole(board, tmp_path):
    out = tmp_path / "out"
    build(board, out, templates=TEMPLATES, version="1")
    build_site(Board.from_records([make_record()], make_cards()), out)

    assert len(list((out / "runs").iterdir())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_build_that_breaks_leaves_the_earlier_one(board, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build(board, out, templates=TEMPLATES, version="1")
    before = contents(out)

    def broken(board):
        raise RuntimeError("power cut")

    monkeypatch.setattr(website, "as_csv", broken)
    with pytest.raises(RuntimeError):
        build(board, out, templates=TEMPLATES, version="2")
    assert contents(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_never_replaced(board, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(BadInput, match="name an empty or a new folder"):
        build(board, tmp_path, templates=TEMPLATES, version="1")
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_in_the_way_is_refused(board, tmp_path):
    (tmp_path / "out").write_text("mine")

    with pytest.raises(BadInput, match="is a file"):
        build(board, tmp_path / "out", templates=TEMPLATES, version="1")


def test_page_that_does_not_change_stays_the_same_file(board, tmp_path):
    out = tmp_path / "out"
    build(board, out, templates=TEMPLATES, version="1")
    before = {path.name: path.stat().st_ino for path in (out / "runs").iterdir()}
    build(board, out, templates=TEMPLATES, version="1")
    assert {path.name: path.stat().st_ino for path in (out / "runs").iterdir()} == before
    build(board, out, templates=TEMPLATES, version="2")  # each page names the version
    assert not {path.stat().st_ino for path in (out / "runs").iterdir()} & set(before.values())


def test_evidence_is_the_results_own_file_under_a_second_name(tmp_path):
    store = Store(tmp_path / "results")
    cell = make_cell()
    store.add(make_record(cell, evidence=store.add_evidence(cell.id, {"labels": np.zeros(3)})))
    folders = Folders([store.root])
    build_site(Board.from_records(folders.all()[0], make_cards()), tmp_path / "out", folders=folders)
    name = f"{cell.id}.npz"
    assert (tmp_path / "out" / "evidence" / name).samefile(store.evidence_dir / name)
