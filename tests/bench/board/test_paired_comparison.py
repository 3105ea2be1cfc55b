"""`vitptq compare`: every row beside one method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench.board_factory import finished
from tests.bench.record_factory import TOP1, make_cards, make_cell, make_record
from vitptq.bench.board.board import Board
from vitptq.bench.board.paired_comparison import Reference, as_markdown
from vitptq.bench.board.stored_noise import StoredNoise
from vitptq.bench.contracts.task import Metric
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.results.store import Store

LABELS = np.zeros(3000, np.int16)


def store_of(tmp_path: Path, rows: list[tuple[dict[str, object], list[int]]]) -> Store:
    """Return a store with a row per entry: fields of the cell, and per seed how many of 3000 images are wrong."""
    store = Store(tmp_path)
    for fields, wrong in rows:
        for seed, count in enumerate(wrong):
            cell = make_cell(task="imagenet", seed=seed, **fields)
            predictions = (np.arange(3000) < count).astype(np.int16)
            evidence = store.add_evidence(cell.id, {"labels": LABELS, "predictions": predictions})
            when = finished(1 if "data" in fields else 2)
            store.add(
                make_record(cell, score=100 * (1 - count / 3000), images=3000, evidence=evidence, provenance=when)
            )
    return store


def told(store: Store, reference: str) -> str:
    board = Board.from_records(store.readable(), make_cards(), noises=StoredNoise(store))
    return as_markdown(board, Reference.parse(reference))


def test_a_row_is_told_with_its_difference_and_verdict(tmp_path: Path) -> None:
    store = store_of(tmp_path, [({"method": "minmax"}, [600, 630, 615]), ({"method": "omse"}, [150, 165, 180])])
    text = told(store, "minmax")
    assert "| OMSE | 94.50 (3) | +15.00 (+" in text
    assert text.splitlines()[4].endswith("| better |")
    assert "| MinMax | 79.50 (3) | – | |" in text
    assert "vitptq" not in text


def test_a_difference_on_fewer_draws_than_the_score_says_so(tmp_path: Path) -> None:
    store = store_of(tmp_path, [({"method": "minmax"}, [600, 600]), ({"method": "omse"}, [150, 165, 180])])
    assert "| better (draws of both: 2) |" in told(store, "minmax")


def test_a_difference_on_one_draw_says_so(tmp_path: Path) -> None:
    store = store_of(tmp_path, [({"method": "minmax"}, [600]), ({"method": "omse"}, [150, 165, 180])])
    assert "| better (one calibration draw) |" in told(store, "minmax")


def test_the_reference_has_as_many_calibration_images_as_the_row(tmp_path: Path) -> None:
    rows = [({"method": "minmax", "calibration_size": n}, [w, w]) for n, w in ((32, 600), (128, 300))]
    rows += [({"method": "omse", "calibration_size": 128}, [150, 150])]
    text = told(store_of(tmp_path, rows), "minmax")
    assert "| OMSE | 95.00 (2) | +5.00 (+" in text


def test_rows_that_may_not_stand_beside_others_are_left_out(tmp_path: Path) -> None:
    rows = [({"method": "minmax"}, [600]), ({"method": "omse"}, [150])]
    rows += [({"method": "ema", "track": "published"}, [100]), ({"method": "percentile", "data": "mini-0"}, [100])]
    text = told(store_of(tmp_path, rows), "minmax")
    assert "OMSE" in text
    assert "EMA" not in text and "Percentile" not in text


def test_parameters_choose_the_reference(tmp_path: Path) -> None:
    rows = [({"method": "minmax", "parameters": {"x": x}}, [w]) for x, w in ((0.0, 600), (1.0, 300))]
    store = store_of(tmp_path, rows)
    assert "+10.00 (+" in told(store, "minmax:x=0.0")
    assert "-10.00 (-" in told(store, "minmax:x=1.0")
    with pytest.raises(BadInput, match=r"minmax fits 2 rows at W4A4: .*name parameters"):
        told(store, "minmax")
    with pytest.raises(BadInput, match="no row fits minmax:x=2"):
        told(store, "minmax:x=2.0")


def test_unknown_methods_and_unreadable_parameters_are_named(tmp_path: Path) -> None:
    store = store_of(tmp_path, [({"method": "minmax"}, [600])])
    with pytest.raises(UnknownName, match="nonesuch"):
        told(store, "nonesuch")
    with pytest.raises(BadInput, match=r'"x" in "minmax:x" is not KEY=VALUE'):
        told(store, "minmax:x")


def test_secondary_scores_stand_behind_the_verdict(tmp_path: Path) -> None:
    store = store_of(tmp_path, [({"method": "minmax"}, [600]), ({"method": "omse"}, [150])])
    top5 = Metric("top5", "Top-5 accuracy", proportion=True)
    records = [
        r.model_copy(update={"scores": r.scores | {"top5": 99.0}, "metrics": (TOP1, top5)}) for r in store.readable()
    ]
    board = Board.from_records(records, make_cards(), noises=StoredNoise(store))
    text = as_markdown(board, Reference.parse("minmax"))
    assert "| method | Top\\-1 accuracy | against MinMax | | Top\\-5 accuracy | against MinMax | |" in text
    assert text.splitlines()[4].endswith("| better (one calibration draw) | 99.00 (1) | – | |")
    assert {line.count("|") for line in text.splitlines()[2:6]} == {8}


def test_verdicts_of_one_table_are_corrected_together(tmp_path: Path) -> None:
    # 7 images: p = 0.016 alone, and not separated among five comparisons
    rows = [({"method": "minmax"}, [107]), ({"method": "omse"}, [100])]
    assert "| better (" in told(store_of(tmp_path / "two", rows), "minmax")
    others = [({"method": name}, [107 + i]) for i, name in enumerate(("ema", "percentile", "repq_vit", "psaq"))]
    assert "better" not in told(store_of(tmp_path / "six", rows + others), "minmax").replace("Holm", "")


def test_record_without_usable_evidence_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    store = store_of(tmp_path, [({"method": "minmax"}, [600, 630, 615]), ({"method": "omse"}, [150, 165, 180])])
    gone = next(record for record in store.readable() if record.cell.method == "omse" and record.cell.seed == 1)
    assert gone.evidence is not None
    (store.evidence_dir / gone.evidence.file).unlink()
    noises = StoredNoise(store)
    text = as_markdown(Board.from_records(store.readable(), make_cards(), noises=noises), Reference.parse("minmax"))
    assert "(draws of both: 2)" in text
    (why,) = noises.left_out
    assert "seed 1" in why
    assert "is missing" in why
