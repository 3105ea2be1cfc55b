"""Calibration sets: what a method gets, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vitptq.bench.errors import BadInput
from vitptq.tasks.calibration import TensorCalibration, files_digest, refuse_leak
from vitptq.tasks.classification import images
from vitptq.tasks.classification.inference import logits

CPU = torch.device("cpu")
CONFIG = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


class Brightness(nn.Module):
    """Two logits: how dark, how bright."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean(dim=(1, 2, 3))
        return torch.stack([-level, level], dim=1)


def save(path: Path, level: int, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path, format="JPEG")
    return path


def test_calibration_yields_equal_batches_whatever_a_method_does_to_them() -> None:
    spec = images.input_spec(CONFIG)
    calibration = TensorCalibration((torch.ones(2, 3, 8, 8),), spec, CPU, "digest", logits)
    for batch in calibration.batches():
        batch.zero_()
    (again,) = calibration.batches()
    assert again.min() == 1
    assert calibration.forward(Brightness(), again).shape == (2, 2)


def split(root: Path) -> tuple[Path, Path, list[Path]]:
    files = [save(root / "train" / "n0" / f"t{i}.JPEG", 40 * i) for i in range(3)]
    save(root / "val" / "n0" / "v0.JPEG", 9)
    return root / "train", root / "val", files


def test_separate_splits_are_accepted(tmp_path: Path) -> None:
    train, val, files = split(tmp_path)
    refuse_leak(files, train=train, val=val)


def test_train_folder_that_is_val_is_refused(tmp_path: Path) -> None:
    _, val, _ = split(tmp_path)
    train = tmp_path / "other"
    train.symlink_to(val, target_is_directory=True)
    with pytest.raises(BadInput, match="calibration would read evaluation images"):
        refuse_leak([train / "n0" / "v0.JPEG"], train=train, val=val)


@pytest.mark.parametrize("how", ["copy", "symlink", "hard link", "official name", "outside"])
def test_leaky_calibration_is_refused(tmp_path: Path, how: str) -> None:
    train, val, files = split(tmp_path)
    evaluation = val / "n0" / "v0.JPEG"
    leak = train / "n0" / "leak.JPEG"
    match how:
        case "copy":
            leak = save(train / "n0" / "v0.JPEG", 9)
        case "symlink":
            leak.symlink_to(evaluation)
        case "hard link":
            os.link(evaluation, leak)
        case "official name":
            leak = save(train / "n0" / "ILSVRC2012_val_00000007.JPEG", 9)
        case "outside":
            leak = evaluation
    with pytest.raises(BadInput, match="is an evaluation image"):
        refuse_leak([*files, leak], train=train, val=val)


def test_digest_follows_content_and_order(tmp_path: Path) -> None:
    _, _, files = split(tmp_path)
    before = files_digest(files)
    assert files_digest(files[::-1]) != before
    save(files[0], 200)
    assert files_digest(files) != before
