"""The full edition of ImageNet on a generated tree, with a small timm model and a local checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tasks.classification.imagenet_tree import CLASSES, CPU, TAG, WNIDS, save_checkpoint, task
from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.classification import evidence
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
    with pytest.raises(Missing, match=r"train has 11 images, expected 12 \(1 missing\)"):
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
        task(root, classes=4, class_names=()).evaluation_files()
    shutil.rmtree(root / "imagenet" / "train" / WNIDS[1])
    with pytest.raises(BadInput, match=rf"train has no folder for 1 classes \({WNIDS[1]}\)"):
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
    file.write_bytes(b"no checkpoint at all")
    with pytest.raises(BadInput, match=f"{TAG}.safetensors is not the checkpoint of {TAG}"):
        task(root).load(TAG, CPU)
    assert "cannot be read as a checkpoint" in task(root).problems(TAG)[0]


@pytest.mark.parametrize("name", [f"{TAG}.safetensors", f"{TAG}.pth"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a git-lfs pointer"),
        (b"", "an empty file"),
    ],
)
def test_what_stands_in_place_of_a_checkpoint_is_named(root: Path, name: str, content: bytes, found: str) -> None:
    (root / "checkpoints" / f"{TAG}.safetensors").unlink()
    (root / "checkpoints" / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"{name} is {found}.*: download it again"):
        task(root).load(TAG, CPU)
    assert found in task(root).problems(TAG)[0]


def test_a_checkpoint_that_links_nowhere_is_named(root: Path) -> None:
    file = root / "checkpoints" / f"{TAG}.safetensors"
    file.unlink()
    file.symlink_to("/nonexistent/weights.safetensors")
    with pytest.raises(
        Missing, match=rf"{file.name} is a link to /nonexistent/weights.safetensors, which is not there"
    ):
        task(root).load(TAG, CPU)
    assert "which is not there" in task(root).problems(TAG)[0]


class Code:
    """Something that a checkpoint of tensors does not hold."""


def test_a_checkpoint_with_code_is_refused_and_nobody_is_told_to_run_it(root: Path) -> None:
    file = root / "checkpoints" / f"{TAG}.safetensors"
    torch.save({"model": load_file(file), "optimiser": Code()}, file.with_name(f"{TAG}.pth"))
    file.unlink()
    with pytest.raises(BadInput, match="would run as code, and is not loaded") as error:
        task(root).load(TAG, CPU)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("stray", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "Thumbs.db"])
def test_hidden_and_system_folders_are_no_classes(root: Path, split: str, stray: str) -> None:
    before = task(root).evaluation_files()[0], task(root).listed_files(6, 0)
    (root / "imagenet" / split / stray).mkdir()
    (root / "imagenet" / split / WNIDS[0] / f"._{WNIDS[0]}_5.JPEG").write_bytes(b"resource fork")
    assert (task(root).evaluation_files()[0], task(root).listed_files(6, 0)) == before


def test_a_hidden_folder_does_not_stand_in_for_a_missing_class(root: Path) -> None:
    (root / "imagenet" / "val" / WNIDS[1]).rename(root / "imagenet" / "val" / ".trash")
    with pytest.raises(BadInput, match=rf"val has no folder for 1 classes \({WNIDS[1]}\)"):
        task(root).evaluation_files()


def test_the_folder_too_many_is_named(root: Path) -> None:
    (root / "imagenet" / "val" / "backup").mkdir()
    with pytest.raises(BadInput, match=r"val has 1 class folders too many \(backup\)"):
        task(root).evaluation_files()


def test_splits_with_other_class_names_are_refused(root: Path) -> None:
    (root / "imagenet" / "train" / WNIDS[2]).rename(root / "imagenet" / "train" / "n09999999")
    message = rf"train has 1 class folders too many \(n09999999\) and no folder for 1 classes \({WNIDS[2]}\), compared"
    with pytest.raises(BadInput, match=message):
        task(root, class_names=()).evaluation_files()


def test_the_folders_of_the_full_edition_are_wordnet_ids() -> None:
    names = ImageNet().class_names
    assert len(set(names)) == 1000 and list(names) == sorted(names) and names[0] == "n01440764"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{0}_7.jpg", r"{0}_7\.jpg is there twice, also as {0}_7\.JPEG"),
        ("{0}_7 (1).JPEG", r"{0}_7 \(1\)\.JPEG is not named as"),
        ("{1}_7.JPEG", r"{1}_7\.JPEG is not named as the training images of its class are, {0}_<number>\.JPEG"),
        ("{0}_70001.JPEG", r"train has 13 images, expected 12 \(1 too many\)"),
    ],
)
def test_a_doubled_or_foreign_training_image_is_refused_before_calibration(root: Path, name: str, message: str) -> None:
    folder = root / "imagenet" / "train" / WNIDS[0]
    shutil.copy(folder / f"{WNIDS[0]}_7.JPEG", folder / name.format(*WNIDS))
    with pytest.raises(BadInput, match=message.format(*WNIDS)):
        task(root).calibration(TAG, 2, 0, CPU)
    assert task(root).problems(TAG)


def test_a_missing_training_image_of_a_class_that_is_not_listed_is_refused_too(root: Path) -> None:
    (root / "imagenet" / "train" / WNIDS[1] / f"{WNIDS[1]}_14.JPEG").unlink()
    with pytest.raises(Missing, match=r"expected 12 \(1 missing\)"):
        task(root, lists=lambda _: ["0/0"]).calibration(TAG, 1, 0, CPU)


def test_an_evaluation_image_in_the_folder_of_another_class_is_refused(root: Path) -> None:
    val = root / "imagenet" / "val"
    moved = sorted((val / WNIDS[0]).iterdir())[0]
    moved.rename(val / WNIDS[1] / moved.name)
    with pytest.raises(BadInput, match=f"{WNIDS[0]} has 2 images where others have 4"):
        task(root).evaluation_files()


def test_an_evaluation_image_in_two_classes_is_refused(root: Path) -> None:
    val = root / "imagenet" / "val"
    twice, replaced = sorted((val / WNIDS[0]).iterdir())[0], sorted((val / WNIDS[1]).iterdir())[0]
    replaced.unlink()
    shutil.copy(twice, val / WNIDS[1])
    with pytest.raises(BadInput, match=rf"{WNIDS[1]}/{twice.name} is in the split twice, also as .*{WNIDS[0]}"):
        task(root).evaluation_files()


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_that_links_nowhere_is_named(root: Path, split: str) -> None:
    file = sorted((root / "imagenet" / split / WNIDS[0]).iterdir())[0]
    file.unlink()
    file.symlink_to("/nonexistent/image.JPEG")
    with pytest.raises(Missing, match=rf"{file.name} is a link to /nonexistent/image\.JPEG, which is not there"):
        task(root).calibration(TAG, 6, 0, CPU) if split == "train" else task(root).preload(TAG)


def test_where_things_are_is_said_with_the_number_of_images(published: Path) -> None:
    assert task(published).data_location() == f"9 evaluation images in {published / 'imagenet'}"
    assert task(published).location(TAG) == f"weights in {published / 'checkpoints' / TAG}.safetensors"


def test_unknown_model_names_the_nearest(published: Path) -> None:
    with pytest.raises(UnknownName, match=f'did you mean "{TAG}"'):
        task(published).load("test_vit.r160_in1", CPU)


def test_planning_touches_no_data(tmp_path: Path) -> None:
    imagenet = ImageNet(root=tmp_path / "nothing")
    assert imagenet.data_version == "ilsvrc2012-val-50000"
    assert len(imagenet.calibration_names(32, 4)) == 32
    assert len(imagenet.models()) == 36


def test_labels_of_the_validation_set_are_known_without_it() -> None:
    labels = [index // 50 for index in range(50_000)]
    assert ImageNet().own_truth() == evidence.labels_hash(np.array(labels, np.int16))
    assert ImageNet(classes=2, images=4).own_truth() == ""
