"""The ADE20K edition on a small tree in the real format, with a small UPerNet and a local checkpoint."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.tasks.segmentation.trees import CLASSES, SIZES, config, write_tree
from vitptq import tasks
from vitptq.bench.errors import BadInput, Missing, UnknownName, VitptqError
from vitptq.tasks.openmmlab import runtime as openmmlab
from vitptq.tasks.segmentation import ade20k_lists, batches, iou
from vitptq.tasks.segmentation.ade20k import MODELS, Ade20k, Published, packaged_config

pytestmark = pytest.mark.skipif(bool(openmmlab.problems()), reason="OpenMMLab's libraries are not installed")

CPU = torch.device("cpu")
NAME = "upernet_tiny"
TRAINING, VALIDATION = 6, 5
PARTS = ("__init__", "batches", "iou", "label_maps", "task")
Disk = tuple[Path, Published]


def positions(_seed: int) -> list[int]:
    return [3, 0, 5, 1]


def task(disk: Disk, **changes: Any) -> Ade20k:
    root, entry = disk
    options = {
        "models": {NAME: entry},
        "classes": CLASSES,
        "images": VALIDATION,
        "training_images": TRAINING,
        "lists": positions,
        "configs": lambda _name: config(),
        "batch_size": 2,
        "workers": 0,
    }
    return Ade20k(root=root, **{**options, **changes})


def save_checkpoint(folder: Path, classes: int = CLASSES) -> Published:
    """Save an untrained model in a file that OpenMMLab would name like this."""
    torch.manual_seed(5)
    model = openmmlab.build(config(classes)["model"], "mmseg")
    folder.mkdir(parents=True, exist_ok=True)
    unnamed = folder / "unnamed.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": model.state_dict()}, unnamed)
    digest = hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]
    entry = Published("swin", "swin/tiny", f"swin/tiny/upernet_tiny_20260101_000000-{digest}.pth", 40.0)
    unnamed.rename(folder / entry.file)
    return entry


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    """A data folder as a person would set it up, and the entry of its checkpoint."""
    root = tmp_path_factory.mktemp("data")
    write_tree(root / "ADEChallengeData2016", training=TRAINING, validation=VALIDATION)
    return root, save_checkpoint(root / "checkpoints")


@pytest.fixture
def disk(published: Disk, tmp_path: Path) -> Disk:
    """A copy to damage."""
    return shutil.copytree(published[0], tmp_path / "data"), published[1]


@pytest.fixture(scope="module")
def model(published: Disk) -> nn.Module:
    return task(published).load(NAME, CPU)


def evaluated(ade20k: Ade20k, model: nn.Module) -> dict[str, np.ndarray]:
    return ade20k.evaluate(model, NAME, CPU, lambda _done, _total: None)


def test_scores_equal_mmsegs_own_evaluation(published: Disk, model: nn.Module) -> None:
    from mmseg.evaluation.metrics import IoUMetric

    ade20k = task(published)
    evidence = evaluated(ade20k, model)
    metric = IoUMetric()
    metric.dataset_meta = {"classes": tuple(map(str, range(CLASSES)))}
    source = batches.dataset(ade20k.dataset_config(NAME), ade20k.folder, "validation")
    prepare = openmmlab.preprocessor(ade20k.model_config(NAME), "mmseg", CPU)
    for index in range(len(source)):
        item = source[index]
        data = prepare({"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}, False)
        with torch.no_grad():
            found = model(data["inputs"], data["data_samples"], mode="predict")
        metric.process({}, [sample.to_dict() for sample in found])
    areas = [sum(column) for column in zip(*metric.results, strict=True)]
    reference = metric.total_area_to_metrics(*areas)
    scores = ade20k.score(evidence)
    for name, theirs in (("miou", "IoU"), ("macc", "Acc"), ("aacc", "aAcc")):
        assert scores[name] == pytest.approx(100 * np.nanmean(reference[theirs]), rel=1e-6)
    assert scores["aacc"] > 5
    assert ade20k.count(evidence) == VALIDATION


def test_evidence_is_compact_and_in_the_order_of_the_names(published: Disk, model: nn.Module) -> None:
    evidence = evaluated(task(published), model)
    assert {(values.dtype, values.shape) for values in evidence.values()} == {(iou.COUNT, (VALIDATION, CLASSES))}
    for row, (height, width) in zip(evidence["labelled"], SIZES, strict=True):
        assert 0.4 * height * width < row.sum() < height * width  # all but the pixels without a label


def test_batches_and_memory_leave_the_evidence_as_it_is(published: Disk, model: nn.Module) -> None:
    kept = evaluated(task(published), model)
    streamed = evaluated(task(published, cache_bytes=0, batch_size=1), model)
    partly = evaluated(task(published, cache_bytes=15_000), model)
    assert 0 < len(next(iter(batches._KEPT.values()))) < VALIDATION
    for name in kept:
        assert np.array_equal(kept[name], partly[name])
        assert np.abs(kept[name].astype(int) - streamed[name]).max() <= 2  # rounding at ties


def test_progress_counts_the_images_of_equal_sizes(published: Disk, model: nn.Module) -> None:
    seen: list[tuple[int, int]] = []
    task(published).evaluate(model, NAME, CPU, lambda *step: seen.append(step))
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]


def test_warm_decodes_once_until_a_file_changes(disk: Disk, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    ade20k = task(disk)
    ade20k.preload(NAME)

    def refuse(*_arguments: object, **_options: object) -> Iterator[Any]:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(openmmlab, "items", refuse)
        before = evaluated(ade20k, model)
    file = sorted((ade20k.folder / "images" / "validation").iterdir())[0]
    Image.new("RGB", SIZES[0][::-1], (200, 10, 10)).save(file)
    assert not np.array_equal(evaluated(ade20k, model)["predicted"], before["predicted"])


def test_outputs_for_methods_are_differentiable(published: Disk, model: nn.Module) -> None:
    ade20k = task(published)
    example = ade20k.example(NAME, CPU)
    assert example.shape == (1, 3, 32, 32)
    *features, logits = ade20k.forward(model, example)
    assert [tuple(one.shape) for one in features] == [(1, 8, 16, 16), (1, 16, 8, 8), (1, 32, 4, 4), (1, 64, 2, 2)]
    assert logits.shape == (1, CLASSES, 16, 16)
    weight = model.backbone.stages[0].blocks[0].attn.w_msa.qkv.weight
    (gradient,) = torch.autograd.grad(logits.sum(), weight)
    assert gradient.abs().sum() > 0


class NotFinite(nn.Module):
    """A segmenter with NaN in the logits of the first image of each batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, samples: list[Any], mode: str) -> list[Any]:
        found = self.network(inputs, samples, mode=mode)
        found[0].seg_logits.data[2, 3, 3] = float("nan")
        return found


def test_logits_that_are_not_finite_fail_and_are_counted(published: Disk, model: nn.Module) -> None:
    with pytest.raises(VitptqError, match=r"not finite \(NaN or infinite\) for 4 of 5 images"):
        evaluated(task(published), NotFinite(model))


def test_calibration_reads_the_listed_images_and_no_labels(disk: Disk, model: nn.Module) -> None:
    ade20k = task(disk)
    folder = ade20k.folder / "images" / "training"
    shutil.rmtree(ade20k.folder / "annotations" / "training")
    listed = ade20k.calibration_files(ade20k.calibration_names(3, 0))
    assert [file.name for file in listed] == [f"ADE_train_{n:08d}.jpg" for n in (4, 1, 6)]
    whole = list(ade20k.calibration(NAME, 3, 0, CPU).batches())
    for file in folder.iterdir():
        if file not in listed:
            file.write_bytes(b"must not be read")
    calibration = ade20k.calibration(NAME, 3, 0, CPU)
    assert [batch.shape for batch in calibration.batches()] == [(1, 3, 32, 48), (2, 3, 32, 45)]
    assert all(map(torch.equal, whole, calibration.batches()))
    assert len(calibration.digest) == 64
    assert calibration.input.shape == (3, 32, 32)
    *_, logits = calibration.forward(model, whole[0])
    assert logits.shape == (1, CLASSES, 16, 24)
    pixels = whole[0] * torch.tensor([58.395, 57.12, 57.375]).view(1, 3, 1, 1)
    pixels += torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)  # RGB in the mean's order


def test_evaluation_image_among_the_training_images_is_refused(disk: Disk) -> None:
    images = task(disk).folder / "images"
    shutil.copy(images / "validation" / "ADE_val_00000002.jpg", images / "training" / "ADE_train_00000004.jpg")
    with pytest.raises(BadInput, match=r"ADE_train_00000004\.jpg is the evaluation image ADE_val_00000002\.jpg"):
        task(disk).calibration(NAME, 2, 0, CPU)


def test_other_number_of_training_images_is_refused(disk: Disk) -> None:
    (task(disk).folder / "images" / "training" / "ADE_train_00000002.jpg").unlink()
    with pytest.raises(BadInput, match="training has 5 images, the calibration lists count in 6"):
        task(disk).calibration(NAME, 2, 0, CPU)


def test_empty_calibration_list_is_refused(published: Disk) -> None:
    with pytest.raises(BadInput, match="the calibration list of seed 0 is empty"):
        task(published, lists=lambda _seed: []).calibration_names(2, 0)


@pytest.mark.parametrize("size", [0, 5])
def test_calibration_size_beyond_the_list_is_refused(published: Disk, size: int) -> None:
    with pytest.raises(BadInput, match=f"{size} calibration images: the list of seed 0 has 1 to 4"):
        task(published).calibration_names(size, 0)


def test_damaged_label_map_is_found_before_any_image_is_decoded(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmmlab, "items", lambda *_a, **_o: pytest.fail("decoded"))
    file = task(disk).folder / "annotations" / "validation" / "ADE_val_00000005.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"ADE_val_00000005\.png is not a readable label map"):
        task(disk).preload(NAME)


def test_other_number_of_images_is_refused(published: Disk) -> None:
    with pytest.raises(BadInput, match="validation has 5 images, expected 2000"):
        task(published, images=2000).preload(NAME)


def test_checkpoint_with_other_classes_is_refused_before_labels_are_read(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ade20k, "evaluation_pairs", lambda _self: pytest.fail("read"))
    with pytest.raises(BadInput, match=f"{NAME} has 5 classes, the label maps have 6"):
        task(disk, classes=6).preload(NAME)
    entry = save_checkpoint(disk[0] / "checkpoints", classes=4)
    with pytest.raises(BadInput, match=r"conv_seg\.(weight|bias) has another shape"):
        task((disk[0], entry)).preload(NAME)


def test_checkpoint_with_another_hash_is_refused(disk: Disk) -> None:
    file = disk[0] / "checkpoints" / disk[1].file
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(BadInput, match=f"its model is pinned to {disk[1].digest}"):
        task(disk).load(NAME, CPU)


def test_checkpoint_is_loaded_without_the_auxiliary_head(published: Disk, model: nn.Module) -> None:
    saved = torch.load(published[0] / "checkpoints" / published[1].file, weights_only=True)["state_dict"]
    loaded = model.state_dict()
    assert loaded and all(torch.equal(value, saved[name]) for name, value in loaded.items())
    assert {name.partition(".")[0] for name in set(saved) - set(loaded)} == {"auxiliary_head"}
    assert not model.training
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def test_what_is_missing_is_said_in_one_sentence_each(tmp_path: Path, published: Disk) -> None:
    ade20k = task((tmp_path, published[1]))
    data, checkpoint = ade20k.problems(NAME)
    assert "ADEChallengeData2016.zip" in data and str(tmp_path / "ADEChallengeData2016") in data
    file = tmp_path / "checkpoints" / published[1].file
    assert checkpoint.endswith(
        f"download https://mmassets.onedl.ai/mmsegmentation/v0.5/{published[1].weights} to {file}"
    )
    with pytest.raises(Missing, match="is not here: download"):
        ade20k.preload(NAME)
    assert task(published).problems(NAME) == []


def test_details_fit_a_record(published: Disk) -> None:
    details = task(published).details(NAME)
    assert json.loads(json.dumps(details)) == details
    assert details["transform"]["test"][1] == {"type": "Resize", "scale": [128, 32], "keep_ratio": True}
    assert details["checkpoint"]["sha256"].startswith(published[1].digest)
    assert str(published[0]) not in json.dumps(details)


def test_unknown_model_names_the_nearest(published: Disk) -> None:
    with pytest.raises(UnknownName, match=f'did you mean "{NAME}"'):
        task(published).load("upernet_tini", CPU)


def test_planning_touches_no_data(tmp_path: Path) -> None:
    ade20k = Ade20k(root=tmp_path / "nothing")
    assert ade20k.data_version == "ade20k-challenge2016-val-2000"
    assert len(ade20k.calibration_names(32, 4)) == 32
    assert [len(ade20k.problems(name)) for name in ade20k.models()] == [2, 2, 2]


@pytest.mark.parametrize(
    "file", ["segmentation/ade20k.py", "openmmlab/runtime.py", *(f"segmentation/{n}.py" for n in PARTS)]
)
def test_importing_the_task_imports_nothing_of_openmmlab(file: str) -> None:
    source = (Path(tasks.__file__).parent / file).read_text(encoding="utf-8")
    at_import = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [ast.unparse(node) for node in at_import if re.search(r"(import|from) mm", ast.unparse(node))]


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_those_of_mmsegs_metafile(name: str) -> None:
    entry = MODELS[name]
    spec = find_spec("mmseg")
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0], ".mim", "configs")
    text = (folder / entry.config).parent.joinpath("metafile.yaml").read_text(encoding="utf-8")
    (section,) = (part for part in text.split("- Name: ") if part.startswith(f"{Path(entry.config).name}\n"))
    assert f"mIoU: {entry.miou}\n" in section
    assert re.search(rf"Weights: \S+/mmsegmentation/v0\.5/{re.escape(entry.weights)}\n", section)
    assert re.fullmatch("[0-9a-f]{8}", entry.digest)


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_single_scale_with_150_classes(name: str) -> None:
    ade20k = Ade20k()
    assert ade20k.input(name).shape == (3, 512, 512)
    assert ade20k.input(name).mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-6)
    assert ade20k.model_config(name)["decode_head"]["num_classes"] == 150
    assert ade20k.model_config(name)["test_cfg"] == {"mode": "whole"}
    dataset = ade20k.dataset_config(name)
    assert dataset["type"] == "ADE20KDataset"
    assert dataset["pipeline"][1] == {"type": "Resize", "scale": (2048, 512), "keep_ratio": True}
    assert "SyncBN" not in str(ade20k.model_config(name))


def test_mmsegs_own_configuration_reads_the_standard_layout(published: Disk) -> None:
    ade20k = task(published, configs=packaged_config, classes=150, models={NAME: MODELS["upernet_swin_tiny"]})
    source = batches.dataset(ade20k.dataset_config(NAME), ade20k.folder, "validation")
    item = batches._compact(source[1])
    assert item["inputs"].shape == (3, 717, 512)
    labels = item["data_samples"].gt_sem_seg.data
    assert labels.dtype == torch.uint8 and labels.shape == (1, *SIZES[1])
    on_disk = np.array(Image.open(ade20k.folder / "annotations" / "validation" / "ADE_val_00000002.png"))
    expected = np.where(np.isin(on_disk, (0, 255)), iou.IGNORED, on_disk - np.uint8(1))
    assert np.array_equal(labels[0], expected)


@pytest.mark.parametrize("seed", ade20k_lists.SEEDS)
def test_published_lists_are_what_the_draw_gives(seed: int) -> None:
    drawn = ade20k_lists.read(seed)
    assert list(drawn) == ade20k_lists.draw(seed)
    assert len(set(drawn)) == 1024 and min(drawn) >= 0 and max(drawn) < ade20k_lists.TRAINING_IMAGES


def test_seeds_draw_different_images() -> None:
    assert len({ade20k_lists.read(seed)[:32] for seed in ade20k_lists.SEEDS}) == 5
    with pytest.raises(BadInput, match="seed 5; published: 0, 1, 2, 3, 4"):
        ade20k_lists.read(5)
