"""COCO's code on a small tree in the real format and small detectors with random weights."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.tasks.detection import coco_tree
from tests.tasks.detection.coco_tree import CLASSES, SmallCoco
from vitptq.bench.errors import BadInput, Missing, UnknownName, VitptqError
from vitptq.tasks.detection import coco_lists, evidence, inference, masks, pictures, published
from vitptq.tasks.detection.coco import Coco
from vitptq.tasks.openmmlab import runtime as openmmlab

CPU = torch.device("cpu")
Arrays = dict[str, np.ndarray]


def ignore(_done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small")
    coco_tree.write(root)
    return root


@pytest.fixture(scope="module")
def task(root: Path) -> SmallCoco:
    return SmallCoco(root)


@pytest.fixture(scope="module")
def model(task: SmallCoco) -> nn.Module:
    return task.load("small", CPU)


@pytest.fixture(scope="module")
def measured(task: SmallCoco, model: nn.Module) -> Arrays:
    return task.evaluate(model, "small", CPU, ignore)


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> SmallCoco:
    """A tree of one's own, to damage."""
    shutil.copytree(root / "coco", tmp_path / "coco")
    return SmallCoco(tmp_path)


def guesses(task: SmallCoco, seed: int = 0) -> list[SimpleNamespace]:
    """Return predictions beside the ground truth, in the form of mmdet's results; some have another class."""
    generator = np.random.default_rng(seed)
    truth = task.annotations()
    results = []
    for image, (height, width) in enumerate(truth.sizes.tolist()):
        own = truth.truth["truth_images"] == image
        corners = np.repeat(truth.truth["truth_boxes"][own], 4, axis=0)
        boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
        boxes += generator.normal(0, 1.5, boxes.shape)
        labels = np.repeat(truth.truth["truth_labels"][own], 4)
        labels = np.where(generator.random(len(labels)) < 0.8, labels, generator.integers(0, 3, len(labels)))
        found = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, (left, top, right, bottom) in zip(found, boxes.round().astype(int).clip(0), strict=True):
            mask[top:bottom, left:right] = True
        scores = torch.from_numpy(generator.random(len(boxes)).round(1)).float()  # ties
        results.append(
            SimpleNamespace(
                bboxes=torch.from_numpy(boxes).float(), labels=torch.from_numpy(labels), scores=scores, masks=found
            )
        )
    return results


def guessed(task: SmallCoco, seed: int = 0) -> Arrays:
    found = [inference.detections(result) for result in guesses(task, seed)]
    return evidence.evidence(task.annotations(), found)


def test_importing_the_task_does_not_import_openmmlab() -> None:
    runtime = Path(openmmlab.__file__)
    for file in (runtime, *(runtime.parents[1] / "detection").glob("*.py")):
        for node in ast.parse(file.read_text()).body:  # not what functions import
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.startswith(("mm", "pycocotools", "faster_coco_eval", "cv2"))], file


# Evidence and scores


def test_scores_equal_mmdets_own_metric(task: SmallCoco, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmdet.evaluation.metrics import coco_metric

    stats: list[np.ndarray] = []

    class Recording(coco_metric.COCOeval):  # type: ignore[misc, name-defined]
        def summarize(self) -> None:
            super().summarize()
            stats.append(self.stats[:6])

    monkeypatch.setattr(coco_metric, "COCOeval", Recording)
    metric = coco_metric.CocoMetric(ann_file=str(task.annotation_file), metric=["bbox", "segm"])
    metric.dataset_meta = {"classes": CLASSES}
    truth = task.annotations()
    for result, image, size in zip(guesses(task), truth.image_ids.tolist(), truth.sizes.tolist(), strict=True):
        sample = {"pred_instances": vars(result), "img_id": image, "ori_shape": tuple(size)}
        metric.process({}, [sample])
    metric.evaluate(len(truth.names))
    names = [f"{kind}_ap{part}" for kind in ("box", "mask") for part in evidence.PARTS]
    expected = {n: 100 * v for n, v in zip(names, np.concatenate(stats).tolist(), strict=True) if v >= 0}
    scores = task.score(guessed(task))
    assert scores == pytest.approx(expected, abs=1e-6)
    assert 20 < scores["box_ap"] < scores["box_ap50"] < 100
    assert "box_ap_large" not in scores  # no object is that large


def test_both_evaluators_agree(task: SmallCoco) -> None:
    pytest.importorskip("faster_coco_eval")
    for seed in range(3):
        found = guessed(task, seed)
        fast, slow = (
            evidence.scores(found, precision)
            for precision in (evidence.faster_precision, evidence.pycocotools_precision)
        )
        assert fast == pytest.approx(slow, abs=1e-9)


def test_perfect_detections_score_100_and_none_score_0(task: SmallCoco) -> None:
    truth = task.annotations()
    objects = truth.truth
    rles = masks.unpacked(objects["truth_masks"], objects["truth_mask_lengths"])
    perfect, nothing = [], []
    for image in range(len(truth.names)):
        own = np.flatnonzero((objects["truth_images"] == image) & ~objects["truth_crowd"])
        boxes = objects["truth_boxes"][own]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
        ones = np.ones(len(own), np.float32)
        perfect.append(
            evidence.Detections(objects["truth_labels"][own], ones, corners, tuple(rles[one] for one in own))
        )
        nothing.append(evidence.Detections(np.zeros(0, np.int16), ones[:0], corners[:0], ()))
    best = task.score(evidence.evidence(truth, perfect))
    assert best == pytest.approx(dict.fromkeys(best, 100.0)) and len(best) >= 8
    assert set(task.score(evidence.evidence(truth, nothing)).values()) == {0.0}


def test_truth_is_one_per_data_set_and_not_the_models(task: SmallCoco, measured: Arrays) -> None:
    other = guessed(task)
    assert task.truth(measured) == task.truth(other)
    other["truth_boxes"] = other["truth_boxes"] + 1
    assert task.truth(measured) != task.truth(other)


def repeated(found: Arrays, times: int) -> Arrays:
    names = ("images", "labels", "scores", "boxes", "masks", "mask_lengths")
    return {name: np.concatenate([found[name]] * times) for name in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("boxes"), "evidence has image_ids, .*; expected"),
        (lambda e: e.update(more=e["boxes"]), "evidence has boxes, .*more.*; expected"),
        (lambda e: e.update(scores=e["scores"].astype(np.float64)), "scores is float64 of shape"),
        (lambda e: e.update(boxes=e["boxes"][:, :3]), r"boxes is float32 of .*; expected float32 of shape \(n, 4\)"),
        (lambda e: e.update(labels=e["labels"][1:]), "expected as many of each"),
        (lambda e: e.update(labels=e["labels"] + np.int16(3)), "labels has [345]; expected 0 to 2"),
        (lambda e: e.update(images=e["images"] - np.int32(1)), "images has -1; expected 0 to 3"),
        (lambda e: e.update(truth_images=e["truth_images"] + np.int32(4)), "truth_images has 4; expected 0 to 3"),
        (lambda e: e.update(masks=e["masks"][1:]), "masks has .* bytes"),
        (lambda e: e.update(scores=e["scores"] * np.float32("nan")), "scores has a value that is not finite"),
        (lambda e: e.update({name: e[name][:3] for name in ("image_ids", "image_sizes")}), "covers 3 images; .* has 4"),
        (lambda e: e.update(repeated(e, 60)), "more than 100 detections of one image"),
    ],
)  # fmt: skip
def test_malformed_evidence_is_refused(task: SmallCoco, change: Callable[[Arrays], Any], message: str) -> None:
    found = guessed(task)
    change(found)
    with pytest.raises(BadInput, match=message):
        task.score(found)


def test_masks_survive_packing() -> None:
    found = torch.rand(300, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    rles = masks.encoded(found)
    assert masks.unpacked(*masks.packed(rles)) == rles
    sized = [{"size": [7, 5], "counts": counts} for counts in rles]
    assert masks.areas(sized) == found.flatten(1).sum(dim=1).tolist()
    assert np.array_equal(masks.decoded(rles[-1], 7, 5), found[-1].numpy())


# Inference


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor")  # mmdet, which the task silences
@pytest.mark.parametrize("cascade", [False, True])
def test_evaluation_gives_what_mmdet_predicts(root: Path, cascade: bool) -> None:
    task = SmallCoco(root, cascade=cascade)
    network = task.load("small", CPU)
    seen: list[tuple[int, int]] = []
    found = task.evaluate(network, "small", CPU, lambda *step: seen.append(step))
    assert seen == [(2, 4), (4, 4)]
    truth = task.annotations()
    source = openmmlab.ImageList([task.val / name for name in truth.names], task.pipeline, "mmdet")
    for image in range(4):
        with torch.no_grad():
            (sample,) = network.test_step({key: [value] for key, value in source[image].items()})
        own = found["images"] == image
        assert np.allclose(found["boxes"][own], sample.pred_instances.bboxes, atol=1e-3)
        assert np.allclose(found["scores"][own], sample.pred_instances.scores, atol=1e-5)
        assert found["labels"][own].tolist() == sample.pred_instances.labels.tolist()
    assert len(found["images"]) > 0
    assert task.count(found) == 4


@pytest.mark.parametrize(
    ("place", "spoil"),
    [
        ("neck", lambda levels: levels[-1][1].fill_(float("nan"))),
        ("rpn_head", lambda output: output[1][0][0].fill_(float("inf"))),
        ("roi_head.bbox_head", lambda output: output[0][0].fill_(float("nan"))),
        ("roi_head.mask_head", lambda output: output[0].fill_(float("nan"))),
    ],
)
def test_outputs_that_are_not_finite_fail_and_are_counted(
    task: SmallCoco, model: nn.Module, place: str, spoil: Callable[[Any], None]
) -> None:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        spoil(output)

    handle = model.get_submodule(place).register_forward_hook(hook)
    try:
        with pytest.raises(VitptqError, match=r"not finite .* for 2 of 4 images"):
            task.evaluate(model, "small", CPU, ignore)
    finally:
        handle.remove()
    assert task.evaluate(model, "small", CPU, ignore)


@pytest.mark.parametrize("cascade", [False, True])
def test_outputs_are_differentiable_and_their_work_does_not_depend_on_weights(cascade: bool) -> None:
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    counted = []
    for factor in (1.0, -2.0):
        network = coco_tree.detector(cascade)
        with torch.no_grad():
            network.rpn_head.rpn_reg.weight.mul_(factor)
        with FlopCounterMode(display=False) as counter:
            found = inference.outputs(network, batch)
        counted.append(counter.get_total_flops())
    stages = 3 if cascade else 1
    assert [tuple(level.shape) for level in found[:5]] == [(2, 8, side, side) for side in (16, 8, 4, 2, 1)]
    assert [tuple(one.shape) for one in found[15:]] == (
        [(100, 4)] * stages + [(100, 12)] * stages + [(40, 3, 12, 12)] * stages
    )
    assert counted[0] == counted[1] > 0
    sum(part.square().sum() for part in found).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    again = inference.outputs(network, batch)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


def test_best_proposals_are_the_highest_scored_anchors(model: Any) -> None:
    sides = (16, 8, 4, 2, 1)
    scores = [torch.zeros(1, 2, side, side) for side in sides]
    deltas = [torch.zeros(1, 8, side, side) for side in sides]
    scores[2][0, 1, 3, 2] = 5.0  # stride 16, square anchor of 64 pixels around the cell's origin (32, 48)
    (boxes,) = inference.top_proposals(model, scores, deltas, (64, 64))
    assert len(boxes) == 50
    assert boxes[0].tolist() == [0.0, 16.0, 64.0, 64.0]


# Calibration


def test_calibration_reads_listed_training_images_in_order(task: SmallCoco, model: nn.Module) -> None:
    assert list(task.calibration_names(2, seed=0)) == ["2", "0"]
    assert [file.name for file in task.calibration_files(["2", "0"])] == ["000000000003.jpg", "000000000001.jpg"]
    calibration = task.calibration("small", 3, 0, CPU)
    assert [tuple(batch.shape) for batch in calibration.batches()] == [(2, 3, 32, 64), (1, 3, 64, 64)]
    (first, _) = calibration.batches()
    outputs = calibration.forward(model, first)
    assert torch.equal(outputs[0], task.forward(model, first)[0])
    assert calibration.digest == task.calibration("small", 3, 0, CPU).digest
    assert calibration.digest != task.calibration("small", 2, 0, CPU).digest


def test_an_empty_calibration_set_is_refused(task: SmallCoco) -> None:
    with pytest.raises(BadInput, match="0 calibration images: the list of seed 0 has 1 to 3"):
        task.calibration("small", 0, 0, CPU)


def test_incomplete_training_split_is_refused(tree: SmallCoco) -> None:
    next(tree.train.iterdir()).unlink()
    with pytest.raises(Missing, match="has 2 images, the calibration lists count in 3"):
        tree.calibration("small", 1, 0, CPU)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_evaluation_images_among_the_training_images_are_refused(tree: SmallCoco, link: Callable[..., None]) -> None:
    leaked = tree.train / "000000000003.jpg"
    leaked.unlink()
    link(tree.val / "000000000101.jpg", leaked)
    with pytest.raises(BadInput, match="000000000003.jpg is an evaluation image"):
        tree.calibration("small", 1, 0, CPU)


def test_published_lists_are_the_draw_and_distinct() -> None:
    for seed in coco_lists.SEEDS:
        drawn = coco_lists.draw(seed)
        assert list(coco_lists.read(seed)) == drawn
        assert len(set(drawn)) == coco_lists.SIZE and max(drawn) < coco_lists.IMAGES
    assert coco_lists.read(0)[:100] != coco_lists.read(1)[:100]
    with pytest.raises(BadInput, match="no calibration list is published for seed 9"):
        coco_lists.read(9)


# Bad input


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[SmallCoco], None]:
    def damage(tree: SmallCoco) -> None:
        content = coco_tree.load(tree.folder)
        change(content)
        coco_tree.save(tree.folder, content)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t.annotation_file.unlink(), r"instances_val2017.json is not there\. COCO 2017 is needed"),
        (lambda t: t.annotation_file.write_text('{"images": [')  , "is not readable JSON"),
        (lambda t: t.annotation_file.write_text("[]"), "has no lists images, annotations and categories"),
        (edited(lambda c: c["categories"].pop()), r"has 2 categories \(circle, square\), the checkpoint 3 classes"),
        (edited(lambda c: c["categories"][1].update(name="cube")), 'number 1 is "cube" there and "square" here'),
        (edited(lambda c: c["annotations"][0].pop("bbox")), 'annotation 1 of .* has no "bbox"'),
        (edited(lambda c: c["annotations"][0].update(image_id=5)), "annotation 1 of .* is for image 5"),
        (edited(lambda c: c["annotations"][0].update(category_id=5)), "annotation 1 of .* is for category 5"),
        (edited(lambda c: c["annotations"][0].update(bbox=[1, 2])), "has an entry of another type"),
        (edited(lambda c: c["annotations"][0].update(segmentation=[])), "neither polygons nor run lengths"),
        (edited(lambda c: c["images"].append(c["images"][0])), "5 images with 4 different ids"),
        (edited(lambda c: c["images"].pop()), "is for image 104, which the file does not list"),
        (lambda t: (t.val / "000000000102.jpg").unlink(), r"1 of the 4 images that .* names are not in .*0102.jpg"),
        (lambda t: shutil.copy(t.val / "000000000102.jpg", t.val / "7.jpg"), r"1 images that .* does not name \(7.jpg"),
        (lambda t: (t.val / "000000000102.jpg").write_bytes(b"?"), r"000000000102.jpg is not a readable image"),
    ],
)  # fmt: skip
def test_bad_data_is_one_clear_error(tree: SmallCoco, damage: Callable[[SmallCoco], Any], message: str) -> None:
    damage(tree)
    with pytest.raises((BadInput, Missing), match=message):
        tree.preload("small")


def test_another_number_of_images_is_refused(root: Path) -> None:
    with pytest.raises(BadInput, match="lists 4 images, expected 5"):
        SmallCoco(root, images=5).preload("small")


def test_problems_name_data_and_checkpoint(tmp_path: Path) -> None:
    data, checkpoint = Coco(root=tmp_path).problems("mask_rcnn_swin_t")
    assert data.startswith("COCO 2017 is needed") and str(tmp_path) in data
    assert "90a4008c.pth" in checkpoint and "download https://download.openmmlab.com" in checkpoint
    with pytest.raises(UnknownName, match='did you mean "mask_rcnn_swin_t"'):
        Coco(root=tmp_path).problems("mask_rcnn_swin")
    with pytest.raises(Missing, match="download https://github.com/SwinTransformer"):
        Coco(root=tmp_path).load("cascade_mask_rcnn_swin_t", CPU)


def test_warm_decodes_once_while_nothing_changes(tree: SmallCoco) -> None:
    tree.preload("small")
    first = tree._evaluation_items(tree.annotations())
    assert tree._evaluation_items(tree.annotations()) is first
    os.utime(tree.val / "000000000102.jpg", ns=(1, 1))
    assert tree._evaluation_items(tree.annotations()) is not first


def test_sets_beyond_the_budget_are_read_as_they_are_needed(root: Path, model: nn.Module, measured: Arrays) -> None:
    streaming = SmallCoco(root, cache_bytes=0)
    streaming.preload("small")
    found = streaming.evaluate(model, "small", CPU, ignore)
    assert all(np.array_equal(found[name], values) for name, values in measured.items())


def test_forgetting_drops_images_and_folders_are_named(task: SmallCoco) -> None:
    task.preload("small")
    before = task._evaluation_items(task.annotations())
    task.drop_images()
    assert task._evaluation_items(task.annotations()) is not before
    assert task.image_folders() == (task.folder,)


def test_scenes_show_truth_and_confident_detections(task: SmallCoco) -> None:
    found = guessed(task)
    scenes = pictures.scenes(found, task.val, CLASSES, count=2)
    assert [scene.title for scene in scenes] == ["Scene 101", "Scene 102"]
    for image, scene in enumerate(scenes):
        own = found["truth_images"] == image
        assert scene.image.shape == (*found["image_sizes"][image], 3)
        assert np.allclose(scene.truth.boxes, found["truth_boxes"][own])
        assert scene.truth.labels == CLASSES
        shown = (found["images"] == image) & (found["scores"] >= pictures.CONFIDENT)
        assert len(scene.found.boxes) == len(scene.found.labels) == shown.sum() > 0
        assert scene.found.classes.max() <= 3 and 0 < (scene.found.classes > 0).mean() < 1
        assert scene.found.labels[-1].endswith(f"{found['scores'][shown].max():.2f}")
    assert pictures.scenes(found, task.train, CLASSES) == []


# The published models


def test_classes_pipeline_and_references_are_mmdets() -> None:
    openmmlab.require("mmdet")
    import mmdet
    import yaml
    from mmdet.datasets import CocoDataset
    from mmengine.config import Config

    assert CocoDataset.METAINFO["classes"] == published.CLASSES
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    found = yaml.safe_load((configs / "swin" / "metafile.yml").read_text())["Models"]
    by_url = {model["Weights"]: model for model in found}
    for name in ("mask_rcnn_swin_t", "mask_rcnn_swin_s"):
        entry = published.PUBLISHED[name]
        model = by_url[entry.url]
        box, mask = (result["Metrics"] for result in model["Results"])
        assert entry.card.reference == {"box_ap": box["box AP"], "mask_ap": mask["mask AP"]}
        assert model["Config"] == f"configs/{entry.config}"
        assert entry.file.endswith(f"-{entry.digest}.pth") and len(entry.digest or "") == 8
        steps = Config.fromfile(configs / entry.config).test_dataloader.dataset.pipeline
        kept = [{k: v for k, v in step.items() if v is not None} for step in steps if step["type"] != "LoadAnnotations"]
        assert kept == Coco().pipeline


def test_cascade_checkpoint_of_the_swin_authors_loads(tmp_path: Path) -> None:
    task = Coco(root=tmp_path)
    torch.manual_seed(0)
    source = openmmlab.build(task.config("cascade_mask_rcnn_swin_t"), "mmdet")
    assert round(sum(parameter.numel() for parameter in source.parameters()) / 1e6) == 86  # as the authors state
    state = {_authors_name(key): value for key, value in source.state_dict().items()}
    file = task.checkpoint_file("cascade_mask_rcnn_swin_t")
    file.parent.mkdir()
    torch.save({"meta": {}, "state_dict": state}, file)
    loaded = task.load("cascade_mask_rcnn_swin_t", CPU).state_dict()
    for key, value in source.state_dict().items():
        if "downsample" not in key:  # whose channels are in another order there
            assert torch.equal(loaded[key], value), key
    del state["roi_head.bbox_head.2.fc_cls.bias"]
    torch.save({"state_dict": state}, file)
    with pytest.raises(BadInput, match="missing key roi_head.bbox_head.2.fc_cls.bias"):
        task.load("cascade_mask_rcnn_swin_t", CPU)


def _authors_name(key: str) -> str:
    if not key.startswith("backbone."):
        return key
    for ours, theirs in (
        ("stages", "layers"), ("attn.w_msa.", "attn."), ("ffn.layers.0.0.", "mlp.fc1."), ("ffn.layers.1.", "mlp.fc2."),
        ("patch_embed.projection", "patch_embed.proj"),
    ):  # fmt: skip
        key = key.replace(ours, theirs)
    return key
