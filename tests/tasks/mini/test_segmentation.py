"""The embedded edition of ADE20K through ADE20K's code, with untrained weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn

from vitptq.bench.errors import BadInput, Missing, UnknownName
from vitptq.tasks.mini.data import scenes
from vitptq.tasks.mini.data.generated import Counts
from vitptq.tasks.mini.models import scene_models, shipped
from vitptq.tasks.mini.segmentation import MiniAde20k
from vitptq.tasks.openmmlab import libraries, models
from vitptq.tasks.segmentation.evidence import MAPS

pytestmark = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")

CPU = torch.device("cpu")
NAME = "mini_upernet_swin"
FEW = Counts(train=6, val=5)
CLASSES = len(scenes.SEGMENT_CLASSES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with the segmenter, as random as it is built."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = models.build(scene_models.SCENE_MODELS[NAME].config(), "mmseg")
    content = save(scene_models.halved(model.state_dict()))
    (folder / f"{NAME}.safetensors").write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "scores": {"miou": 12.5}}
    (folder / f"{NAME}.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few generated scenes."""
    folder = tmp_path_factory.mktemp("data")
    MiniAde20k(root=folder, counts=FEW).prepare()
    return folder


@pytest.fixture
def mini(root: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> MiniAde20k:
    monkeypatch.setattr(shipped, "WEIGHTS", trained)
    return MiniAde20k(root=root, counts=FEW, batch_size=2)


class Cheating(nn.Module):
    """A segmenter that looks the labels up, except that it calls every 3 an 8."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def forward(self, inputs: torch.Tensor, samples: list[Any], mode: str) -> list[Any]:
        from mmengine.structures import PixelData

        for sample in samples:
            name = Path(sample.img_path).with_suffix(".png").name
            labels = torch.from_numpy(
                np.array(Image.open(self.folder / "annotations" / "validation" / name)) - 1
            ).long()
            labels[labels == 4] = 9
            logits = nn.functional.one_hot(labels, CLASSES).permute(2, 0, 1).float()
            sample.set_data({"seg_logits": PixelData(data=logits), "pred_sem_seg": PixelData(data=labels[None])})
        return samples


def evaluated(mini: MiniAde20k, model: nn.Module) -> dict[str, np.ndarray]:
    return mini.evaluate(model, NAME, CPU, lambda _done, _total: None)


def test_scenes_keep_their_size_and_their_eleven_classes(mini: MiniAde20k) -> None:
    evidence = evaluated(mini, mini.load(NAME, CPU))
    assert mini.count(evidence) == FEW.val
    assert evidence["labelled"].shape == (FEW.val, 11)
    assert (evidence["labelled"].sum(axis=1) == 96 * 96).all()
    assert (evidence["labelled"][:, 0] > 96 * 96 / 3).all()  # the photograph
    assert 0 < mini.score(evidence)["miou"] < 100


def test_score_is_that_of_the_predictions(mini: MiniAde20k) -> None:
    evidence = evaluated(mini, Cheating(mini.folder))
    labelled = evidence["labelled"].sum(axis=0, dtype=np.int64)
    present = labelled > 0
    share = np.where(present, 1.0, np.nan)
    share[4] = 0.0 if present[4] else np.nan
    share[9] = labelled[9] / (labelled[9] + labelled[4]) if present[[4, 9]].any() else np.nan
    assert mini.score(evidence)["miou"] == pytest.approx(100 * np.nanmean(share))
    assert present.sum() > 5


def test_pictures_show_image_labels_and_prediction(mini: MiniAde20k) -> None:
    evidence = evaluated(mini, Cheating(mini.folder))
    assert evidence[MAPS].shape == (FEW.val, 96, 96)
    drawn = mini.scenes(evidence)
    assert [scene.title for scene in drawn] == [f"ADE_val_{number:08d}" for number in range(1, FEW.val + 1)]
    for scene, row in zip(drawn, evidence["labelled"], strict=False):
        assert scene.image.shape == (96, 96, 3)
        assert np.array_equal(np.bincount(scene.truth.classes.ravel(), minlength=CLASSES), row)
        assert np.array_equal(scene.found.classes, np.where(scene.truth.classes == 4, 9, scene.truth.classes))
    assert MiniAde20k(root=mini.folder / "nowhere", counts=FEW).scenes(evidence) == ()


def test_maps_that_contradict_the_counts_are_refused(mini: MiniAde20k) -> None:
    evidence = evaluated(mini, Cheating(mini.folder))
    evidence[MAPS][1] = 0
    with pytest.raises(BadInput, match="evidence of image 1 is impossible"):
        mini.score(evidence)
    del evidence[MAPS]
    with pytest.raises(BadInput, match="expected intersection, labelled, maps, predicted"):
        mini.score(evidence)


def test_calibration_comes_from_the_training_scenes(mini: MiniAde20k) -> None:
    assert [file.name for file in mini.calibration_files(["4"])] == ["ADE_train_00000004.jpg"]
    calibration = mini.calibration(NAME, 3, 0, CPU)
    assert [batch.shape for batch in calibration.batches()] == [(2, 3, 96, 96), (1, 3, 96, 96)]
    assert calibration.input.shape == (3, 96, 96)


def test_published_calibration_lists_are_nested_and_differ_by_seed() -> None:
    mini = MiniAde20k()
    for seed in range(5):
        assert list(mini.calibration_names(128, seed))[:32] == list(mini.calibration_names(32, seed))
    assert mini.calibration_names(32, 0) != mini.calibration_names(32, 1)
    with pytest.raises(BadInput, match="seed 9; published: 0, 1, 2, 3, 4"):
        mini.calibration_names(32, 9)


def test_card_pins_the_weights(mini: MiniAde20k, trained: Path) -> None:
    card = mini.models()[NAME]
    assert card.checkpoint == hashlib.sha256((trained / f"{NAME}.safetensors").read_bytes()).hexdigest()
    assert card.reference == {"miou": 12.5}
    assert mini.details(NAME)["checkpoint"] == {"file": f"{NAME}.safetensors", "sha256": card.checkpoint}
    assert mini.problems(NAME) == []


def test_weights_that_are_not_there_are_missing_not_unknown(
    mini: MiniAde20k, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    assert mini.models() == {}
    with pytest.raises(Missing, match=r"mini_upernet_swin\.safetensors is missing"):
        mini.card(NAME)
    with pytest.raises(UnknownName, match="mini_upernet_swin"):
        mini.card("mini_mask_rcnn_swin")


def test_changed_weights_are_refused(mini: MiniAde20k, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = scene_models.SCENE_MODELS[NAME].weights
    (tmp_path / source.name).write_bytes(source.read_bytes()[:-4] + b"\0\0\0\1")
    (tmp_path / f"{NAME}.json").write_bytes(source.with_suffix(".json").read_bytes())
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(BadInput, match="sha256"):
        mini.load(NAME, CPU)


def test_planning_needs_no_data(tmp_path: Path) -> None:
    mini = MiniAde20k(root=tmp_path)
    assert mini.data_version == f"mini-{scenes.DATA.fingerprint}"
    assert mini.folder == tmp_path / "mini" / f"scenes-{scenes.DATA.fingerprint[:12]}" / "ADEChallengeData2016"
