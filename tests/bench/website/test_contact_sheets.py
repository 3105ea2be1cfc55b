"""The images that a method made, on its run's page."""

from __future__ import annotations

import numpy as np

from tests.bench.record_factory import make_cards, make_cell, make_record
from tests.bench.website.test_pictures import decoded
from vitptq.bench.board.board import Board
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.store import Store
from vitptq.bench.website import contact_sheets


def row_with_images(store: Store, images: np.ndarray):
    cell = make_cell(method="psaq")
    ref = store.add_evidence(f"{cell.id}.generated", {"generated": images})
    record = make_record(cell, details={"method": {"images": {"generated": ref.model_dump()}}})
    return Board.from_records([record], make_cards()).tables[0].rows[0]


def test_sheet_shows_evenly_spaced_images_in_order(tmp_path):
    images = np.arange(32, dtype=np.uint8).reshape(2, 16, 1, 1, 1).repeat(8, 2).repeat(6, 3).repeat(3, 4)
    (sheet,) = contact_sheets.contact_sheets(row_with_images(Store(tmp_path), images), Folders([tmp_path]))
    assert (sheet.images, sheet.shown, sheet.size) == (32, 16, (8, 6))
    picture = decoded(sheet.address)
    assert picture.size == (sheet.width, sheet.height) == (8 * 7 - 1, 2 * 9 - 1)
    shown = [picture.getpixel((column * 7, line * 9))[0] for line in range(2) for column in range(8)]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, 31)
    assert picture.getpixel((6, 0))[3] == 0  # the gap shows the page


def test_large_images_become_small(tmp_path):
    images = np.zeros((1, 2, 224, 112, 3), dtype=np.uint8)
    (sheet,) = contact_sheets.contact_sheets(row_with_images(Store(tmp_path), images), Folders([tmp_path]))
    assert decoded(sheet.address).size == (2 * 33 - 1, 64)
    assert sheet.size == (224, 112)


def test_missing_or_changed_files_leave_the_page_without_a_sheet(tmp_path):
    row = row_with_images(Store(tmp_path), np.zeros((1, 2, 8, 8, 3), dtype=np.uint8))
    (path,) = (tmp_path / "evidence").iterdir()
    path.write_bytes(b"something else")
    assert contact_sheets.contact_sheets(row, Folders([tmp_path])) == ()
    path.unlink()
    assert contact_sheets.contact_sheets(row, Folders([tmp_path])) == ()
    assert contact_sheets.contact_sheets(row, None) == ()


def test_records_without_kept_images_have_no_sheet(tmp_path):
    record = make_record(make_cell(method="psaq"))
    row = Board.from_records([record], make_cards()).tables[0].rows[0]
    assert contact_sheets.contact_sheets(row, tmp_path) == ()
