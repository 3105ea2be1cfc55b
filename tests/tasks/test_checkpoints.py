"""Checkpoint files that fit, and those that do not."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
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


def test_a_checkpoint_that_the_converter_cannot_read_is_refused(tmp_path: Path) -> None:
    digest = save(tmp_path / "model.pth", {"weight": torch.zeros(2, 3)})
    with pytest.raises(BadInput, match=r"model\.pth is not a checkpoint of this model"):
        checkpoints.load_checkpoint(nn.Linear(3, 2), tmp_path / "model.pth", digest, lambda state: state.nothing)  # type: ignore[attr-defined]


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


class Code:
    """Something that a checkpoint of tensors does not hold."""


def test_no_message_advises_to_run_the_code_of_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    digest = save(file, {"state_dict": nn.Linear(3, 2).state_dict(), "hook": Code()})
    with pytest.raises(BadInput, match="would run as code, and is not loaded") as error:
        checkpoints.load_checkpoint(nn.Linear(3, 2), file, digest)
    assert "weights_only" not in str(error.value)
    with pytest.raises(pickle.UnpicklingError) as unsafe:
        torch.load(file, weights_only=True)
    for text in (checkpoints.first_line(unsafe.value), checkpoints.first_problem(unsafe.value)):
        assert "weights_only" not in text and "run as code" in text


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<html>not found</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"", "an empty file"),
    ],
)
def test_what_stands_in_place_of_a_checkpoint_is_said_before_its_hash(
    tmp_path: Path, content: bytes, found: str
) -> None:
    file = tmp_path / "model.pth"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=rf"model\.pth is {found}.*: download it again"):
        checkpoints.load_checkpoint(nn.Linear(3, 2), file, "0" * 64)


def test_any_damage_of_an_old_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    torch.save({"state_dict": nn.Linear(3, 2).state_dict()}, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    for length in range(1, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"model\.pth "):
            checkpoints.load_checkpoint(nn.Linear(3, 2), file, None)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
def test_the_first_bytes_of_a_checkpoint_are_enough_to_refuse_it(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b"neither an archive nor a pickle nor tensors")
    with pytest.raises(BadInput, match=f"{name} cannot be read as a checkpoint"):
        checkpoints.refuse_unreadable(file)
    state = nn.Linear(3, 2).state_dict()
    save_file(state, file) if file.suffix == ".safetensors" else torch.save(state, file)
    checkpoints.refuse_unreadable(file)
