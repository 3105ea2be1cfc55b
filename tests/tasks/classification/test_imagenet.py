"""The full edition of ImageNet on a generated tree, with a small timm model and a local checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tasks.classification.imagenet_tree import CLASSES, CPU, TAG, WNIDS, save_checkpoint, task
from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.classification.imagenet import ImageNet


def test_calibration_reads_exactly_the_listed_files(root: Path) -> None:
    imagenet = task(root)
    whole = next(iter(imagenet.calibration(TAG, 4, 0, CPU).batches()))
    listed = imagenet.calibration_files(imagenet.calibration_names(4, 0))
    for file in (imagenet.folder / "train").glob("*/*"):
        if file not in listed:
            file.write_bytes(b"must not be read")
    calibration = imagenet.calibration(TAG, 4, 0, CPU)
    assert torch.equal(next(iter(calibration.batches())), whole)
    assert calibration.input.shape == (3, 160, 160)
    assert calibration.forward(imagenet.load(TAG, CPU), whole).shape == (4, CLASSES)


def test_positions_count_in_the_sorted_file_list(published: Path) -> None:
    names = [file.name for file in task(published).calibration_files(["2/1", "0/3"])]
    assert names == [f"{WNIDS[2]}_14.JPEG", f"{WNIDS[0]}_7.JPEG"]  # 0, 14, 21, 7


def test_missing_training_images_are_counted(root: Path) -> None:
    (root / "imagenet" / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").unlink()
    with pytest.raises(Missing, match=rf"{WNIDS[0]} has 3 images, .* wants number 3, .*\(1 of 6 listed"):
        task(root).calibration(TAG, 6, 0, CPU)


def test_missing_data_set_is_one_sentence(tmp_path: Path) -> None:
    imagenet = task(tmp_path)
    assert "image-net.org" in imagenet.problems(TAG)[0]
    assert str(tmp_path / "imagenet") in imagenet.problems(TAG)[0]
    with pytest.raises(Missing, match=r"val is not there\. ImageNet is needed: download"):
        imagenet.evaluation_files()
    with pytest.raises(Missing, match="train is not there"):
        imagenet.calibration(TAG, 2, 0, CPU)


def test_complete_machine_has_no_problems(published: Path) -> None:
    assert task(published).problems(TAG) == []


def test_other_number_of_classes_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match="val has 3 class folders, the models have 4 classes"):
        task(root, classes=4).evaluation_files()
    shutil.rmtree(root / "imagenet" / "train" / WNIDS[1])
    with pytest.raises(BadInput, match="train has 2 class folders, the models have 3 classes"):
        task(root).calibration(TAG, 2, 0, CPU)


def test_local_checkpoint_is_loaded_unchanged(root: Path) -> None:
    original = save_checkpoint(root / "checkpoints" / f"{TAG}.safetensors")
    loaded = task(root).load(TAG, CPU)
    assert not loaded.training
    assert all(torch.equal(value, original.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_pth_checkpoint_with_a_wrapper_is_loaded(root: Path) -> None:
    file = root / "checkpoints" / f"{TAG}.safetensors"
    torch.save({"model": load_file(file)}, file.with_name(f"{TAG}.pth"))
    before = task(root).load(TAG, CPU).state_dict()
    file.unlink()
    after = task(root).load(TAG, CPU).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_missing_checkpoint_is_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitptq.tasks.classification.imagenet._cached", lambda _: None)
    file = root / "checkpoints" / f"{TAG}.safetensors"
    file.unlink()
    with pytest.raises(Missing) as error:
        task(root).load(TAG, CPU)
    wanted = f"download model.safetensors from https://huggingface.co/timm/{TAG} to {file}"
    assert wanted in str(error.value)
    assert "no network" in str(error.value)
    assert [wanted in problem for problem in task(root).problems(TAG)] == [True]


def test_checkpoint_from_the_hub_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitptq.tasks.classification.imagenet._cached", lambda _: None)
    file = root / "checkpoints" / f"{TAG}.safetensors"
    fetched = file.rename(root / "model.safetensors")
    assert task(root, download=lambda _: fetched).load(TAG, CPU).num_classes == CLASSES


def test_checkpoint_with_a_missing_key_is_refused(root: Path) -> None:
    file = root / "checkpoints" / f"{TAG}.safetensors"
    save_file({name: value for name, value in load_file(file).items() if name != "blocks.2.norm1.bias"}, file)
    with pytest.raises(BadInput, match=r"is not the checkpoint of test_vit.*: missing key blocks\.2\.norm1\.bias"):
        task(root).load(TAG, CPU)


def test_checkpoint_of_another_head_is_refused(root: Path) -> None:
    save_checkpoint(root / "checkpoints" / f"{TAG}.safetensors", classes=5)
    with pytest.raises(BadInput, match=r"head\.weight has another shape"):
        task(root).load(TAG, CPU)


def test_file_that_is_no_checkpoint_is_refused(root: Path) -> None:
    file = root / "checkpoints" / f"{TAG}.safetensors"
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(BadInput, match=f"{TAG}.safetensors is not the checkpoint of {TAG}"):
        task(root).load(TAG, CPU)


def test_unknown_model_names_the_nearest(published: Path) -> None:
    with pytest.raises(UnknownName, match=f'did you mean "{TAG}"'):
        task(published).load("test_vit.r160_in1", CPU)


def test_planning_touches_no_data(tmp_path: Path) -> None:
    imagenet = ImageNet(root=tmp_path / "nothing")
    assert imagenet.data_version == "ilsvrc2012-val-50000"
    assert len(imagenet.calibration_names(32, 4)) == 32
    assert len(imagenet.models()) == 25
