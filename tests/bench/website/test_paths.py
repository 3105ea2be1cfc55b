import re

from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.board.board import Board
from vitptq.bench.website.paths import method_path, run_path


def test_file_names_come_from_hashes_and_never_collide():
    cells = [make_cell(method=f"m{x}", parameters={"p": x}) for x in ("[1.5]", "[1,5]", "[1;5]", "")]
    board = Board.from_records(map(make_record, cells), {})
    paths = [run_path(row) for row in board.rows] + [method_path(name) for name in board.cards]

    assert len(set(paths)) == 8
    assert all(re.fullmatch(r"(runs|methods)/[0-9a-f]{12}[a-z0-9-]*\.html", p) for p in paths)
