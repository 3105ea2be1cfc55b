"""The official figures themselves: complete, documented, and made on this project's model."""

from __future__ import annotations

import hashlib

import pytest
import torch

from tests.parity.figures import DATA, assert_close, assert_same, manifest, official
from tests.parity.unread import NOT_COMPARED, Watched, names
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS

FILES = sorted(path.stem for path in DATA.glob("*.npz"))


@pytest.mark.parametrize("method", FILES)
def test_each_array_is_documented_as_it_is(method: str) -> None:
    described = manifest()["files"][f"{method}.npz"]["arrays"]
    arrays = official(method)
    assert set(described) == set(arrays)
    for name, array in arrays.items():
        assert list(array.shape) == described[name]["shape"], name
        assert str(array.dtype).removeprefix("torch.") == described[name]["dtype"], name


@pytest.mark.parametrize("method", [name for name in FILES if name != "mini_vit"])
def test_each_file_names_its_repository_and_commit(method: str) -> None:
    source = manifest()["files"][f"{method}.npz"]
    assert "/" in source["repository"] and len(source["commit"]) == 40


def test_arrays_that_are_not_compared_are_there() -> None:
    assert set(NOT_COMPARED) <= names()


def test_an_array_counts_as_read_once_a_test_asks_for_it() -> None:
    read: set[str] = set()
    arrays = Watched("ours", {"one": torch.ones(1), "two": torch.ones(2)}, read)
    assert "one" in arrays and list(arrays) == ["one", "two"] and arrays.get("three") is None
    assert len(arrays.items()) == 2
    assert arrays["two"].shape == (2,)
    assert read == {"ours/two"}


def test_official_runs_used_the_weights_that_ship() -> None:
    digest = hashlib.sha256()
    for name, tensor in sorted(CLASSIFIERS["mini_vit"].load().state_dict().items()):
        digest.update(name.encode() + tensor.float().numpy().tobytes())
    assert digest.hexdigest() == manifest()["files"]["mini_vit.npz"]["weights_sha256"]


@torch.no_grad()
def test_float_model_puts_out_the_official_logits() -> None:
    images = official("mini_vit")
    mean, std = (images[name].reshape(1, 3, 1, 1) for name in ("mean", "std"))
    logits = CLASSIFIERS["mini_vit"].load()((images["evaluation"].float() / 255 - mean) / std)
    assert_close(logits, images["logits_float"])


def test_labels_belong_to_the_evaluation_images() -> None:
    images = official("mini_vit")
    assert_same(images["logits_float"].argmax(1), images["labels"])


def test_a_difference_is_seen() -> None:
    values = torch.tensor([1.0, 2.0])
    with pytest.raises(AssertionError, match="largest difference"):
        assert_same(values, torch.tensor([1.0, 2.0001]))
    with pytest.raises(AssertionError, match="50.00% apart"):
        assert_close(values, torch.tensor([1.0, 2.1]))
    with pytest.raises(AssertionError, match="values against"):
        assert_same(values, torch.tensor([1.0]))
