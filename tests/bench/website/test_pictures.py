"""Scenes on the run page: what the task draws, beside the float model's, inside the page."""

from __future__ import annotations

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from tests.bench.record_factory import make_cards, make_cell, make_record
from vitptq.bench import registry
from vitptq.bench.board.board import Board
from vitptq.bench.contracts.task import Drawing, Scene
from vitptq.bench.errors import BadInput
from vitptq.bench.results.folders import Folders
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store
from vitptq.bench.website import pictures


class Drawn:
    """A task that draws one scene from its evidence."""

    def scenes(self, evidence):
        if "found" not in evidence:
            raise BadInput("evidence without predictions")
        image = np.full((8, 12, 3), 200, dtype=np.uint8)
        truth = Drawing(np.zeros((8, 12), dtype=np.uint8), ((1, 2, 3, 4),), ("7",))
        return [Scene("first", image, truth, Drawing(evidence["found"]))]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "task", lambda name, edition: Drawn())
    return Store(tmp_path)


def row_with_evidence(store: Store, **arrays: np.ndarray):
    records: list[Record] = []
    for cell, value in ((make_cell(), 3), (make_cell(method="float", bits="W32A32", seed=0), 5)):
        found = arrays or {"found": np.full((8, 12), value, dtype=np.uint8)}
        records.append(make_record(cell, evidence=store.add_evidence(cell.id, found)))
    table = Board.from_records(records, make_cards()).tables[0]
    return table.quantised[0], table.floats


def decoded(address: str) -> Image.Image:
    kind, _, content = address.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_truth_float_and_quantised_stand_side_by_side(results):
    row, floats = row_with_evidence(results)
    (view,) = pictures.views(row, floats, Folders([results.root]))
    assert [panel.caption for panel in view.panels] == ["Ground truth", "Float model", f"{row.label}, W4A4"]
    truth, reference, found = view.panels
    assert truth.boxes == (pictures.Box(1, 2, 3, 4, "7"),)
    assert [decoded(p.classes).getpixel((0, 0)) for p in (truth, reference, found)] == [0, 5, 3]
    assert decoded(found.photograph).size == (12, 8)


def test_class_nought_is_clear_and_the_others_let_the_image_through(results):
    row, floats = row_with_evidence(results)
    (view,) = pictures.views(row, floats, Folders([results.root]))
    alpha = [decoded(panel.classes).convert("RGBA").getpixel((0, 0))[3] for panel in view.panels]
    assert alpha == [0, pictures.OPACITY, pictures.OPACITY]


@pytest.mark.parametrize("arrays", [{"other": np.zeros(2)}])
def test_evidence_without_predictions_leaves_the_page_without_pictures(results, arrays):
    row, floats = row_with_evidence(results, **arrays)
    assert pictures.views(row, floats, Folders([results.root])) == ()


def test_missing_evidence_leaves_the_page_without_pictures(results):
    row, floats = row_with_evidence(results)
    for path in results.evidence_dir.iterdir():
        path.unlink()
    assert pictures.views(row, floats, Folders([results.root])) == ()
    assert pictures.views(row, floats, None) == ()


def test_neighbouring_classes_differ_in_colour():
    colours = [pictures.colour(index) for index in range(1, 12)]
    distances = [np.abs(np.subtract(a, b)).sum() for a, b in itertools.pairwise(colours)]
    assert min(distances) > 100
