"""What is here, data, checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.commands.command_line import vitptq


def test_data_is_generated_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_DATA", "replaced by the command")
    text = vitptq("data", "mini", "--out", str(tmp_path))
    assert str(tmp_path) in text
    assert len(list(tmp_path.glob("mini/classification-*/val/*/*.JPEG"))) == 3000
    assert len(list(tmp_path.glob("mini/scenes-*/coco/val2017/*.jpg"))) == 500
    assert len(list(tmp_path.glob("mini/scenes-*/ADEChallengeData2016/annotations/validation/*.png"))) == 500


def test_doctor_reports_versions_and_every_model(tmp_path: Path) -> None:
    text = vitptq("doctor", "imagenet", "--results", str(tmp_path), code=1)
    assert "version of torch" in text
    assert text.count("ImageNet is needed: download") == 1
    assert text.splitlines()[-1] == "ready: imagenet/mini; not ready: imagenet/full"
    assert "ready: imagenet/mini" in vitptq("doctor", "imagenet/mini", "--results", str(tmp_path))


def test_check_refuses_a_device_that_is_not_here() -> None:
    text = vitptq("check", "minmax", "--device", "cuda:99", code=2)
    assert 'device "cuda:99" is not here; this machine has: cpu' in text


def test_doctor_says_what_a_suite_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITPTQ_DATA", str(tmp_path))
    text = vitptq("doctor", "--suite", "papers/q-hyvit-imagenet", "--results", str(tmp_path), code=1)
    assert "ImageNet is needed: download" in text.splitlines()[0]
    assert text.splitlines()[-1].startswith("papers/q-hyvit-imagenet would not run: ")
