"""The embedded edition through ImageNet's loading code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.classification import evidence
from vitptq.tasks.mini.classification import MiniImageNet
from vitptq.tasks.mini.data import digit_images
from vitptq.tasks.mini.data.generated import CALIBRATION_SEEDS, Counts
from vitptq.tasks.mini.models import classifiers, shipped

CPU = torch.device("cpu")
FEW = Counts(train=1024, val=60)
SHA = "ab" * 32


class Untrained(nn.Module):
    """Random logits that depend on every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(3 * 32 * 32, 10, generator=torch.Generator().manual_seed(1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


def normalised(images: np.ndarray) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (classifiers.MEAN, classifiers.STD))
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder that knows the ViT only."""
    facts = {"sha256": SHA, "top1": 91.5, "outlier_plan": {"blocks.0.norm1": [[3, 4]]}}
    (tmp_path / "mini_vit.json").write_text(json.dumps(facts), encoding="utf-8")
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random pixels under the names of the edition: drawing digits is tested elsewhere, and takes longer."""
    root = tmp_path_factory.mktemp("data")
    mini = MiniImageNet(root=root, counts=FEW)
    random = np.random.default_rng(0)
    listed = {*mini.calibration_names(300, 0), *mini.calibration_names(32, 1)}
    held_out = [f"val/n{i % 10:08d}/mini_val_{i:08d}.JPEG" for i in range(FEW.val)]
    for name in [*sorted(listed), *held_out]:
        (mini.folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(mini.folder / name)
    return root


def test_models_with_published_weights_are_offered(weights: Path) -> None:
    offered = MiniImageNet().models()
    assert sorted(offered) == ["mini_vit", "mini_vit_outlier"]
    assert offered["mini_vit"].reference == {"top1": 91.5}
    assert offered["mini_vit"].family == offered["mini_vit_outlier"].family == "vit"


def test_outlier_variant_is_another_checkpoint(weights: Path) -> None:
    offered = MiniImageNet().models()
    assert offered["mini_vit"].checkpoint == SHA
    assert offered["mini_vit_outlier"].checkpoint.startswith(f"{SHA}:outlier-")


def test_untrained_model_is_missing_and_a_wrong_name_unknown(weights: Path) -> None:
    with pytest.raises(Missing, match="mini_swin"):
        MiniImageNet().load("mini_swin", CPU)
    with pytest.raises(UnknownName, match='did you mean "mini_vit"'):
        MiniImageNet().load("mini_vitt", CPU)


@pytest.fixture
def trained(weights: Path) -> Path:
    """The same folder with random weights that their facts belong to."""
    torch.manual_seed(2)
    content = save(classifiers.mini_vit().state_dict())
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "top1": 9.0, "outlier_plan": {"blocks.0.norm1": [[3, 4]]}}
    (weights / "mini_vit.json").write_text(json.dumps(facts), encoding="utf-8")
    (weights / "mini_vit.safetensors").write_bytes(content)
    return weights


def test_float_models_are_loaded_and_widening_keeps_the_function(trained: Path) -> None:
    mini = MiniImageNet()
    plain, widened = (mini.load(name, CPU) for name in ("mini_vit", "mini_vit_outlier"))
    assert not plain.training
    assert not torch.equal(plain.blocks[0].norm1.weight, widened.blocks[0].norm1.weight)
    images = mini.example("mini_vit", CPU)
    assert images.shape == (1, *mini.input("mini_vit").shape)
    with torch.no_grad():
        assert torch.allclose(mini.forward(plain, images), mini.forward(widened, images), atol=1e-5)


def test_record_details_name_weights_and_transform(trained: Path) -> None:
    details = MiniImageNet().details("mini_vit")
    assert details["checkpoint"]["sha256"] == MiniImageNet().models()["mini_vit"].checkpoint
    assert details["transform"]["mean"] == list(classifiers.MEAN)
    assert details["calibration"]["lists"] == "tasks/mini/data/calibration.json"


def test_other_weights_than_the_published_are_refused(trained: Path) -> None:
    (trained / "mini_vit.safetensors").write_bytes(b"other")
    with pytest.raises(BadInput, match="has sha256"):
        MiniImageNet().load("mini_vit", CPU)


def test_missing_weights_are_a_problem(weights: Path, generated: Path) -> None:
    mini = MiniImageNet(root=generated, counts=FEW)
    assert mini.problems("mini_vit")[-1] == (
        f"{weights / 'mini_vit.safetensors'} is missing: restore it from the repository"
    )


def test_data_that_a_run_generates_is_no_problem(trained: Path, tmp_path: Path) -> None:
    mini = MiniImageNet(root=tmp_path / "none")
    assert mini.problems("mini_vit") == []
    assert mini.data_location() == f"a run first generates 3,000 evaluation images in {mini.folder}"


def test_generated_data_that_is_not_whole_is_a_problem(trained: Path, tmp_path: Path) -> None:
    mini = MiniImageNet(root=tmp_path, counts=Counts(train=20, val=10))
    mini.prepare()
    assert mini.problems("mini_vit") == [] and mini.data_location() == f"10 evaluation images in {mini.folder}"
    listed = mini.calibration_names(20, 0)
    (mini.folder / listed[3]).unlink()
    assert "(1 of 20 listed calibration images are missing)" in mini.problems("mini_vit")[0]
    next((mini.folder / "val").glob("*/*.JPEG")).unlink()
    assert "val has 9 images, expected 10" in mini.problems("mini_vit")[0]


def test_evaluation_reads_the_generated_images_pixel_for_pixel(weights: Path, generated: Path) -> None:
    mini = MiniImageNet(root=generated, counts=FEW)
    evidence = mini.evaluate(Untrained(), "mini_vit", CPU, lambda _done, _total: None)
    expected = digit_images.read_split(mini.folder, "val")
    order = np.lexsort((expected.names, expected.labels))
    logits = Untrained()(normalised(expected.images[order]))
    assert np.array_equal(evidence["predictions"], logits.argmax(1).numpy())
    assert np.array_equal(evidence["labels"], expected.labels[order])
    assert mini.count(evidence) == 60


def test_calibration_follows_the_published_list(weights: Path, generated: Path) -> None:
    mini = MiniImageNet(root=generated, counts=FEW)
    names = mini.calibration_names(32, 1)
    calibration = mini.calibration("mini_vit", 32, 1, CPU)
    (batch,) = calibration.batches()
    split = digit_images.read_split(mini.folder, "train")
    expected = normalised(split.images[[split.names.index(name) for name in names]])
    assert torch.allclose(batch, expected, atol=1e-6)
    assert batch.shape == (32, 3, 32, 32)
    assert calibration.input.std == classifiers.STD


def test_large_calibration_sets_come_in_batches(weights: Path, generated: Path) -> None:
    mini = MiniImageNet(root=generated, counts=FEW)
    sizes = [len(batch) for batch in mini.calibration("mini_vit", 300, 0, CPU).batches()]
    assert sizes == [128, 128, 44]


def test_calibration_lists_are_nested_and_differ_by_seed() -> None:
    mini = MiniImageNet()
    for seed in CALIBRATION_SEEDS:
        whole = list(mini.calibration_names(1024, seed))
        assert whole[:32] == list(mini.calibration_names(128, seed))[:32] == list(mini.calibration_names(32, seed))
        assert all(name.startswith("train/") for name in whole)
    assert mini.calibration_names(32, 0) != mini.calibration_names(32, 1)
    with pytest.raises(BadInput, match="seed 9; published: 0, 1, 2, 3, 4"):
        mini.calibration_names(32, 9)


def test_prepare_generates_what_evaluation_reads(weights: Path, tmp_path: Path) -> None:
    mini = MiniImageNet(root=tmp_path, counts=Counts(train=20, val=10))
    seen: list[tuple[int, int]] = []
    mini.prepare(lambda *step: seen.append(step))
    assert seen[-1] == (30, 30)
    evidence = mini.evaluate(Untrained(), "mini_vit", CPU, lambda _done, _total: None)
    assert evidence["labels"].tolist() == list(range(10))
    mini.prepare(lambda *step: seen.append(step))
    assert len(seen) == 30


def test_missing_listed_images_are_counted(weights: Path, generated: Path) -> None:
    mini = MiniImageNet(root=generated, counts=FEW)
    with pytest.raises(Missing, match=r"\.JPEG is not there \(\d+ of 1024 listed calibration images are missing\)"):
        mini.calibration("mini_vit", 1024, 0, CPU)


def test_planning_needs_no_data(tmp_path: Path) -> None:
    mini = MiniImageNet(root=tmp_path)
    assert mini.data_version == f"mini-{digit_images.DATA.fingerprint}"
    assert mini.folder.name == f"classification-{digit_images.DATA.fingerprint[:12]}"


def test_hybrid_models_say_so() -> None:
    cards = MiniImageNet().models()
    hybrid = {name for name, card in cards.items() if "hybrid" in card.groups}
    assert hybrid == {"mini_mobilevit", "mini_mobilevitv2", "mini_efficientformerv2"} & cards.keys()
    assert "mini_mobilevit" in hybrid


def test_pinned_labels_are_those_of_the_standard_data() -> None:
    labels = np.repeat(np.arange(10, dtype=np.int16), 300)  # classes take turns, and files are read by class
    assert MiniImageNet().own_truth() == evidence.labels_hash(labels)
    assert MiniImageNet(counts=Counts(20, 20)).own_truth() == ""
