"""The ImageNet edition on a generated tree of real JPEG files, with a small timm model and a local checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.classification import imagenet_lists
from vitptq.tasks.classification.imagenet import MODELS, ImageNet
from vitptq.tasks.classification.imagenet_lists import Row

CPU = torch.device("cpu")
TAG = "test_vit.r160_in1k"
CARDS = {TAG: ModelCard(TAG, "vit", TAG, {"top1": 50.0}, tolerance=100.0)}
CLASSES = 3
TRAIN, VAL = 4, 3
WNIDS = ("n01440764", "n02102040", "n03000684")


def no_network(tag: str) -> Path:
    raise FileNotFoundError(f"no network for {tag}")


def rows(_seed: int) -> list[Row]:
    return [(2, 1), (0, 3), (1, 0), (0, 0), (2, 2), (1, 3)]


def save_checkpoint(path: Path, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(3)
    model = timm.create_model(TAG, pretrained=False, num_classes=classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    return model


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as a person would set it up."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for wnid in WNIDS:
            folder = root / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                name = f"{wnid}_{number * 7}.JPEG" if split == "train" else f"ILSVRC2012_val_{wnid[-2:]}{number}.JPEG"
                pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name)
    save_checkpoint(root / "checkpoints" / f"{TAG}.safetensors")
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(published, tmp_path / "data")


def task(root: Path, **changes: object) -> ImageNet:
    options = {"models": CARDS, "classes": CLASSES, "images": CLASSES * VAL, "lists": rows, "download": no_network}
    return ImageNet(root=root, **{**options, "batch_size": 4, "workers": 0, **changes})  # type: ignore[arg-type]


def ignore(_done: int, _total: int) -> None:
    pass


def test_float_model_is_evaluated_end_to_end(published: Path) -> None:
    imagenet = task(published)
    seen: list[tuple[int, int]] = []
    model = imagenet.load(TAG, CPU)
    evidence = imagenet.evaluate(model, TAG, CPU, lambda *step: seen.append(step))
    assert seen == [(4, 9), (8, 9), (9, 9)]
    assert evidence["labels"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {values.dtype for values in evidence.values()} == {np.dtype(np.int16)}
    assert imagenet.count(evidence) == 9
    matches = (evidence["predictions"] == evidence["labels"]).sum()
    assert imagenet.score(evidence) == {"top1": 100 * matches / 9}


def test_streaming_and_cached_evaluation_agree(published: Path) -> None:
    model = task(published).load(TAG, CPU)
    cached = task(published).evaluate(model, TAG, CPU, ignore)
    streamed = task(published, cache_bytes=0).evaluate(model, TAG, CPU, ignore)
    assert all(np.array_equal(cached[name], streamed[name]) for name in cached)


def test_evaluation_uses_the_checkpoints_own_transform(published: Path) -> None:
    imagenet = task(published)
    details = imagenet.details(TAG)
    assert details["transform"]["input_size"] == [3, 160, 160]
    assert (details["transform"]["crop_pct"], details["transform"]["interpolation"]) == (0.95, "bicubic")
    assert details["checkpoint"]["file"] == f"{TAG}.safetensors"
    assert len(details["checkpoint"]["sha256"]) == 64
    assert json.loads(json.dumps(details)) == details
    assert str(published) not in json.dumps(details)
    assert imagenet.example(TAG, CPU).shape == (1, 3, 160, 160)


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


def test_calibration_sets_are_nested_and_equal_byte_for_byte(published: Path) -> None:
    imagenet = task(published)
    assert list(imagenet.calibration_names(6, 0))[:2] == list(imagenet.calibration_names(2, 0))
    large, again = (next(iter(imagenet.calibration(TAG, 6, 0, CPU).batches())) for _ in range(2))
    small = next(iter(imagenet.calibration(TAG, 2, 0, CPU).batches()))
    assert torch.equal(large, again)
    assert torch.equal(large[:2], small)


@pytest.mark.parametrize("size", [0, 7])
def test_calibration_size_beyond_the_list_is_refused(published: Path, size: int) -> None:
    with pytest.raises(BadInput, match=f"{size} calibration images: the list of seed 0 has 1 to 6"):
        task(published).calibration_names(size, 0)


def test_run_whose_train_folder_is_val_is_refused(root: Path) -> None:
    shutil.rmtree(root / "imagenet" / "train")
    (root / "imagenet" / "train").symlink_to(root / "imagenet" / "val")
    with pytest.raises(BadInput, match="calibration would read evaluation images"):
        task(root, lists=lambda _: [(0, 0)]).calibration(TAG, 1, 0, CPU)


def test_evaluation_images_copied_to_train_are_refused(root: Path) -> None:
    shutil.rmtree(root / "imagenet" / "train")
    shutil.copytree(root / "imagenet" / "val", root / "imagenet" / "train")
    with pytest.raises(BadInput, match="is an evaluation image"):
        task(root, lists=lambda _: [(0, 0)]).calibration(TAG, 1, 0, CPU)


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


def test_other_number_of_images_is_refused(published: Path) -> None:
    with pytest.raises(BadInput, match="val has 9 images, expected 50000"):
        task(published, images=50_000).evaluation_files()


def test_damaged_evaluation_image_is_named(root: Path) -> None:
    damaged = sorted((root / "imagenet" / "val" / WNIDS[1]).iterdir())[1]
    damaged.write_bytes(b"\xff\xd8\xff")
    imagenet = task(root)
    with pytest.raises(BadInput, match=f"{damaged.name} is not a readable image"):
        imagenet.evaluate(imagenet.load(TAG, CPU), TAG, CPU, ignore)


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


@pytest.mark.parametrize("tag", MODELS)
def test_published_models_have_timms_data_config(tag: str) -> None:
    imagenet = ImageNet()
    card = imagenet.models()[tag]
    config = imagenet.data_config(tag)
    assert card.checkpoint == tag
    crop = {"mobilevitv2": 0.888, "efficientformer": 0.95, "efficientformerv2": 0.95}.get(card.family, 0.9)
    assert (config["crop_pct"], config["interpolation"], config["num_classes"]) == (crop, "bicubic", 1000)
    assert config["hf_hub_id"] == f"timm/{tag}"
    assert f"crop {crop}, bicubic" in card.note
    assert (config["input_size"][1] == 256) == ("256 pixels" in card.note)
    assert (config["mean"] == (0.0, 0.0, 0.0) and config["std"] == (1.0, 1.0, 1.0)) == ("not normalised" in card.note)


def test_planning_touches_no_data(tmp_path: Path) -> None:
    imagenet = ImageNet(root=tmp_path / "nothing")
    assert imagenet.data_version == "ilsvrc2012-val-50000"
    assert len(imagenet.calibration_names(32, 4)) == 32
    assert len(imagenet.models()) == 25


@pytest.mark.parametrize("seed", imagenet_lists.SEEDS)
def test_published_lists_are_what_the_draw_gives(seed: int) -> None:
    assert list(imagenet_lists.read(seed)) == imagenet_lists.draw(seed)


@pytest.mark.parametrize("seed", imagenet_lists.SEEDS)
def test_published_lists_are_balanced_and_exist_in_every_class(seed: int) -> None:
    drawn = imagenet_lists.read(seed)
    assert len(drawn) == len(set(drawn)) == 1024
    assert len({label for label, _ in drawn[:1000]}) == 1000
    assert all(0 <= label < 1000 and 0 <= position < 732 for label, position in drawn)


def test_seeds_draw_different_images() -> None:
    assert len({imagenet_lists.read(seed)[:32] for seed in imagenet_lists.SEEDS}) == 5


def test_list_that_is_not_published_is_refused() -> None:
    with pytest.raises(BadInput, match="seed 5; published: 0, 1, 2, 3, 4"):
        imagenet_lists.read(5)
