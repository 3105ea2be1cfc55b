"""Checkpoints that a laboratory describes in a file: read, refused, loaded and measured under their own name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import timm
import torch

from tests.tasks.classification import imagenet_tree
from tests.tasks.classification.conftest import published  # noqa: F401
from tests.tasks.detection.coco_tree import CPU, SmallCoco, detector, detector_config, write
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.classification.imagenet import ImageNet
from vitptq.tasks.detection.coco import Coco
from vitptq.tasks.openmmlab import libraries
from vitptq.tasks.own_checkpoints import read, without_wrapper
from vitptq.tasks.segmentation.ade20k import Ade20k

ENTRY = """
[[imagenet]]
name = "ours"
architecture = "test_vit"
file = "ours.pth"
sha256 = "{sha256}"
reference = {{ top1 = 33.3 }}
"""


def describe(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "checkpoints.toml"
    path.write_text(text)
    return path


def entry(**changes: str) -> str:
    values = {
        "name": '"ours"', "architecture": '"test_vit"', "file": '"ours.pth"', "sha256": f'"{"0" * 64}"',
        "reference": "{ top1 = 80.0 }", **changes,
    }  # fmt: skip
    return "[[imagenet]]\n" + "".join(f"{key} = {value}\n" for key, value in values.items() if value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[imagenet", "cannot be read as TOML"),
        ("[[cityscapes]]\nname = 1", r"has \[\[cityscapes\]\]; known: \[\[imagenet\]\], \[\[coco\]\], \[\[ade20k\]\]"),
        (entry(sha256='"abc"'), r"imagenet\.0\.sha256"),
        (entry(sha256=""), r"imagenet\.0\.sha256: Field required"),
        (entry(checkpoint='"a"'), r"imagenet\.0\.checkpoint: Extra inputs"),
        (entry(name='"our model"'), r"imagenet\.0\.name"),
        (entry(name='"published"'), r'\[\[imagenet\]\] "published": a published model has this name'),
        (entry(reference="{ acc = 80.0 }"), "reference has no top1, which the float gate compares"),
        (entry(architecture=""), "imagenet needs architecture, and no config"),
        (entry() + entry(), 'two entries of .* are called "ours"'),
    ],
)
def test_entry_that_does_not_make_sense_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(describe(tmp_path, text), "imagenet", ["published"], "top1")


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    assert read(tmp_path / "checkpoints.toml", "imagenet", [], "top1") == {}


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("deit_small_patch16_224", "vit"),
        ("mobilevitv2_100", "mobilevitv2"),
        ("swin_tiny", "swin"),
        ("resnet50", "other"),
    ],
)
def test_family_is_read_from_the_architecture(tmp_path: Path, architecture: str, family: str) -> None:
    path = describe(tmp_path, entry(architecture=f'"{architecture}"'))
    assert read(path, "imagenet", [], "top1")["ours"].card().family == family


def test_keys_of_data_parallel_training_lose_their_prefix() -> None:
    one = torch.zeros(1)
    assert list(without_wrapper({"module.a": one, "module.b": one})) == ["a", "b"]
    assert list(without_wrapper({"module.a": one, "b": one})) == ["module.a", "b"]


@pytest.fixture
def ours(published: Path, tmp_path: Path) -> ImageNet:  # noqa: F811
    """ImageNet with an own checkpoint of a small architecture."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=imagenet_tree.CLASSES)
    file = tmp_path / "ours.pth"
    torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, file)
    describe(tmp_path, ENTRY.format(sha256=hashlib.sha256(file.read_bytes()).hexdigest().upper()))
    return imagenet_tree.task(published, checkpoints=tmp_path)


def test_own_classifier_is_measured_under_its_own_name(ours: ImageNet) -> None:
    assert list(ours.models()) == [imagenet_tree.TAG, "ours"]
    card = ours.card("ours")
    assert card.checkpoint == hashlib.sha256((ours.checkpoints / "ours.pth").read_bytes()).hexdigest()
    assert (card.reference, card.source) == ({"top1": 33.3}, "checkpoints.toml")
    assert ours.problems("ours") == []
    found = ours.evaluate(ours.load("ours", CPU), "ours", CPU, imagenet_tree.ignore)
    assert ours.count(found) == 9
    assert ours.details("ours")["checkpoint"]["file"] == "ours.pth"


def test_file_with_another_hash_or_none_is_refused(ours: ImageNet) -> None:
    file = ours.checkpoints / "ours.pth"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BadInput, match=r"ours\.pth has sha256 .*, its model is pinned to"):
        ours.load("ours", CPU)
    file.unlink()
    with pytest.raises(
        Missing, match=r"ours\.pth is not there, .*checkpoints\.toml describes it as ours: copy it there"
    ):
        ours.load("ours", CPU)
    assert ours.problems("ours") == [ours.missing_checkpoint("ours")]


def test_entry_may_differ_from_the_architectures_data_config(ours: ImageNet) -> None:
    before = ours.details("ours")["transform"]
    path = ours.checkpoints / "checkpoints.toml"
    path.write_text(path.read_text() + "data_config = { crop_pct = 0.5, mean = [0.1, 0.2, 0.3] }\n")
    after = ours.details("ours")["transform"]
    assert (after["crop_pct"], after["mean"]) == (0.5, [0.1, 0.2, 0.3])
    assert after["input_size"] == before["input_size"]


def test_architecture_that_timm_does_not_know_is_named(ours: ImageNet) -> None:
    path = ours.checkpoints / "checkpoints.toml"
    path.write_text(path.read_text().replace("test_vit", "no_such_model"))
    with pytest.raises(BadInput, match="ours: timm .* cannot build it"):
        ours.load("ours", CPU)


needs_openmmlab = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")


class OwnCoco(SmallCoco):
    """The full edition's models on the small tree."""

    models = Coco.models
    config = Coco.config
    checkpoint_file = Coco.checkpoint_file
    checkpoint_digest = Coco.checkpoint_digest
    float_model = Coco.float_model


@needs_openmmlab
def test_own_detector_with_random_weights_is_measured_under_its_own_name(tmp_path: Path) -> None:
    write(tmp_path)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save({"state_dict": detector().state_dict(), "meta": {}}, folder / "random.pth")
    (folder / "random_swin.py").write_text(f"model = {detector_config()!r}\n")
    sha256 = hashlib.sha256((folder / "random.pth").read_bytes()).hexdigest()
    describe(
        folder,
        f'[[coco]]\nname = "random_detector"\nconfig = "random_swin.py"\nfile = "random.pth"\nsha256 = "{sha256}"\n'
        "reference = { box_ap = 0.0, mask_ap = 0.0 }\n",
    )
    task = OwnCoco(tmp_path)
    assert "random_detector" in task.models() and "mask_rcnn_swin_t" in task.models()
    assert task.card("random_detector").family == "swin"
    model = task.load("random_detector", CPU)
    found = task.evaluate(model, "random_detector", CPU, lambda _done, _total: None)
    own = SmallCoco(tmp_path).evaluate(detector(), "small", CPU, lambda _done, _total: None)
    assert all((found[name] == own[name]).all() for name in own)


@needs_openmmlab
def test_own_segmenter_takes_a_packaged_configuration_by_name(tmp_path: Path) -> None:
    config = "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"
    describe(
        tmp_path / "checkpoints",
        f'[[ade20k]]\nname = "ours"\nconfig = "{config}"\nfile = "ours.pth"\nsha256 = "{"0" * 64}"\n'
        "reference = { miou = 40.0 }\n",
    )
    task = Ade20k(root=tmp_path)
    assert task.config("ours") == task.config("upernet_swin_tiny")
    assert task.dataset_config("ours") == task.dataset_config("upernet_swin_tiny")
    assert task.checkpoint_file("ours") == tmp_path / "checkpoints" / "ours.pth"
    describe(
        tmp_path / "checkpoints", (tmp_path / "checkpoints" / "checkpoints.toml").read_text().replace(config, "a.py")
    )
    with pytest.raises(Missing, match=r"a\.py is not there: copy the model's configuration to it"):
        task.config("ours")
