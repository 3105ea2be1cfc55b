"""How much room cells will take."""

from __future__ import annotations

from pathlib import Path

from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.run.disk_estimate import DiskEstimates

FAMILIES = {"minmax": "observe", "psaq-vit": "generate"}


def test_shipped_figures_speak_where_nothing_was_measured(tmp_path: Path) -> None:
    estimates = DiskEstimates([], tmp_path, FAMILIES)
    plain = make_cell(task="imagenet", edition="full", method="minmax")
    generated = make_cell(task="imagenet", edition="full", method="psaq-vit")
    assert 0 < estimates.of(plain) < estimates.of(generated)
    assert estimates.of(make_cell(task="other", edition="full")) == 0


def test_files_of_measured_cells_speak_for_those_like_them(tmp_path: Path) -> None:
    record = make_record(make_cell(seed=0, method="minmax"))
    (tmp_path / f"{record.id}.npz").write_bytes(b"x" * 70)
    (tmp_path / f"{record.id}.generated.npz").write_bytes(b"x" * 30)
    estimates = DiskEstimates([record], tmp_path, FAMILIES)
    assert estimates.of(make_cell(seed=1, method="minmax")) == 100
    assert estimates.of(make_cell(seed=1, method="psaq-vit")) != 100
