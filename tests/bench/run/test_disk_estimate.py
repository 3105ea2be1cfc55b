"""How much room cells will take."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.record_factory import make_cell, make_record
from vitptq.bench.results.suites import Group, expand
from vitptq.bench.run.disk_estimate import DiskEstimates, ImageRoom

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


def test_decoded_images_that_cells_share_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_CACHE", str(tmp_path))
    monkeypatch.delenv("VITPTQ_NO_CACHE", raising=False)
    group = Group(
        task="imagenet", edition="full", models=["vit_base_patch16_224.augreg_in21k_ft_in1k"],
        methods=["minmax", "omse"], bits=["W8A8", "W4A4"], calibration_size=32,
    )  # fmt: skip
    cells = expand(group)
    image = 3 * 224 * 224
    room = ImageRoom.of(cells)
    assert sorted(room.needed.values()) == [32 * image, 50_000 * image]
    assert room.there == 0
    deit = Group(**{**group.model_dump(), "models": ["deit_small_patch16_224.fb_in1k"]})
    assert ImageRoom.of([*cells, *expand(deit)]).bytes == room.bytes  # another mean, the same pixels
    larger = Group(**{**group.model_dump(), "calibration_size": 1024})
    assert ImageRoom.of([*cells, *expand(larger)]).bytes == (50_000 + 1024) * image
    folder = max(room.needed, key=lambda place: room.needed[place])
    folder.mkdir(parents=True)
    (folder / "a.pixels").write_bytes(b"x" * 1000)
    assert room.there == 1000
    assert str(room).startswith(f"decoded images are kept in {tmp_path / 'images'}: about 7.5 GB, 1.0 kB of it there")
    monkeypatch.setenv("VITPTQ_NO_CACHE", "1")
    assert (ImageRoom.of(cells).needed, str(ImageRoom.of(cells))) == ({}, "")


def test_detectors_and_segmenters_say_at_most_how_much_their_images_take() -> None:
    for task, model, images in (("coco", "mask_rcnn_swin_t", 5000), ("ade20k", "upernet_swin_tiny", 2000)):
        group = Group(task=task, edition="full", models=[model], methods=["minmax"], bits=["W8A8"])
        assert 10**9 < ImageRoom.of(expand(group)).bytes <= (images + 32) * 3 * 1333 * 800
