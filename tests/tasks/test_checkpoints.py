"""Checkpoint files that fit, and those that do not."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks import checkpoints


def save(path: Path, state: object) -> str:
    torch.save(state, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_checkpoint_loads_by_full_hash_and_by_openmmlabs_eight_digits(tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    digest = save(tmp_path / "model.pth", {"meta": {"epoch": 36}, "state_dict": source.state_dict()})
    checkpoints.load_checkpoint(target, tmp_path / "model.pth", digest)
    assert torch.equal(target.weight, source.weight)
    checkpoints.load_checkpoint(target, tmp_path / "model.pth", digest[:8])
    with pytest.raises(BadInput, match="pinned to"):
        checkpoints.load_checkpoint(target, tmp_path / "model.pth", digest[:7])


def test_checkpoint_of_another_code_base_is_converted(tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    digest = save(
        tmp_path / "model.pth", {"model": {f"old.{key}": value for key, value in source.state_dict().items()}}
    )
    convert = lambda state: {key.removeprefix("old."): value for key, value in state.items()}  # noqa: E731
    checkpoints.load_checkpoint(target, tmp_path / "model.pth", digest, convert)
    assert torch.equal(target.bias, source.bias)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "missing key bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)}, "unexpected key more"),
        ({"weight": torch.zeros(5, 3), "bias": torch.zeros(2)}, "weight has another shape"),
        ({"weight": "text"}, "holds no state_dict"),
    ],
)
def test_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    digest = save(tmp_path / "model.pth", state)
    with pytest.raises(BadInput, match=message):
        checkpoints.load_checkpoint(nn.Linear(3, 2), tmp_path / "model.pth", digest)


def test_wrong_hash_corrupt_file_and_absent_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    save(file, {"state_dict": nn.Linear(3, 2).state_dict()})
    with pytest.raises(BadInput, match=r"has sha256 .*pinned to 0000"):
        checkpoints.load_checkpoint(nn.Linear(3, 2), file, "0" * 8)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(BadInput, match="cannot be read as a checkpoint"):
        checkpoints.load_checkpoint(nn.Linear(3, 2), file, hashlib.sha256(b"no checkpoint").hexdigest())
    with pytest.raises(Missing, match="is not there"):
        checkpoints.load_checkpoint(nn.Linear(3, 2), tmp_path / "absent.pth", "0" * 8)
