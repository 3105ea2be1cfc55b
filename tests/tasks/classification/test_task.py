"""The shared classification code on arrays, small folders and fake models."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vitptq.bench.errors import BadInput, VitptqError
from vitptq.tasks import checkpoint_root, data_root
from vitptq.tasks.classification import task as classification
from vitptq.tasks.classification.imagenet import ImageNet
from vitptq.tasks.classification.task import decoded, logits, predict, read_image, transform
from vitptq.tasks.files import TensorCalibration, files_digest, refuse_leak

CPU = torch.device("cpu")
CONFIG = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


class Brightness(nn.Module):
    """Two logits: how dark, how bright."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean(dim=(1, 2, 3))
        return torch.stack([-level, level], dim=1)


def save(path: Path, level: int, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path, format="JPEG")
    return path


def ignore(_done: int, _total: int) -> None:
    pass


def evidence(predictions: list[int], labels: list[int], dtype: type = np.int16) -> dict[str, np.ndarray]:
    return {"predictions": np.array(predictions, dtype), "labels": np.array(labels, dtype)}


@pytest.fixture
def three_classes() -> ImageNet:
    return ImageNet(classes=3, images=None)


def test_score_is_the_share_of_correct_predictions(three_classes: ImageNet) -> None:
    found = evidence([0, 1, 2, 0], [0, 1, 2, 2])
    assert three_classes.score(found) == {"top1": 75.0}
    assert three_classes.count(found) == 4


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"predictions": np.zeros(2, np.int16)}, "evidence has predictions; expected labels, predictions"),
        (evidence([0, 1], [0]), "2 predictions for 1 labels"),
        (evidence([], []), "0 predictions"),
        (evidence([0, 3], [0, 1]), "predictions has class 3; classes are 0 to 2"),
        (evidence([0, 1], [0, -1]), "labels has class -1"),
        (evidence([0, 1], [0, 1], np.int64), "int64 of shape (2,); expected int16"),
    ],
)
def test_malformed_evidence_is_refused(three_classes: ImageNet, found: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(BadInput) as error:
        three_classes.score(found)
    assert message in str(error.value)


def test_evidence_of_part_of_the_images_is_refused() -> None:
    with pytest.raises(BadInput, match="covers 2 images; the evaluation set has 5"):
        ImageNet(classes=3, images=5).score(evidence([0, 1], [0, 1]))


def test_predict_reports_progress_and_leaves_train_mode() -> None:
    model = Brightness().train()
    seen: list[tuple[int, int]] = []
    batches = [torch.ones(2, 3, 4, 4), -torch.ones(1, 3, 4, 4)]
    found = predict(model, batches, total=3, classes=2, device=CPU, progress=lambda *step: seen.append(step))
    assert found.tolist() == [1, 1, 0]
    assert found.dtype == np.int16
    assert seen == [(2, 3), (3, 3)]
    assert not model.training


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_fail_and_are_counted(value: float) -> None:
    batch = torch.ones(4, 3, 4, 4)
    batch[1] = value
    with pytest.raises(VitptqError, match=r"not finite .* for 1 of 6 images"):
        predict(Brightness(), [batch, torch.ones(2, 3, 4, 4)], total=6, classes=2, device=CPU, progress=ignore)


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(BadInput, match=r"returned \(2, 2\) for 2 images; expected logits of shape \(2, 5\)"):
        predict(Brightness(), [torch.ones(2, 3, 4, 4)], total=2, classes=5, device=CPU, progress=ignore)


def test_decoding_keeps_order_and_spares_the_global_generator(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{level}.JPEG", level) for level in (250, 0, 128, 60)]
    before = torch.random.get_rng_state()
    batches = list(decoded(files, transform(CONFIG), batch_size=3, workers=0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 8, 8), (1, 3, 8, 8)]
    assert torch.cat(batches).mean(dim=(1, 2, 3)).argsort().tolist() == [1, 3, 2, 0]


# Python 3.12 warns of forking beside torch's threads; torch's loader does it.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_worker_processes_decode_the_same_and_name_a_damaged_file(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{level}.JPEG", level) for level in (250, 0, 128)]
    alone = torch.cat(list(decoded(files, transform(CONFIG), batch_size=2, workers=0)))
    assert torch.equal(torch.cat(list(decoded(files, transform(CONFIG), batch_size=2, workers=1))), alone)
    files[1].write_bytes(b"not an image")
    with pytest.raises(BadInput, match=r"^\S+0\.JPEG is not a readable image"):
        list(decoded(files, transform(CONFIG), batch_size=2, workers=1))


def test_truncated_image_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cut.JPEG"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"cut\.JPEG is not a readable image .*truncated"):
        read_image(str(file))


def test_grey_image_becomes_rgb(tmp_path: Path) -> None:
    Image.new("L", (9, 9), 77).save(tmp_path / "grey.JPEG")
    assert read_image(str(tmp_path / "grey.JPEG")).mode == "RGB"


def test_decoded_set_is_kept_until_a_file_changes(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{level}.JPEG", level) for level in (250, 0)]
    first = classification.decoded_once(files, CONFIG, 8, 0)
    assert classification.decoded_once(files, CONFIG, 8, 0) is first
    save(files[1], 255, size=(40, 40))
    os.utime(files[1], ns=(1, 1))
    assert classification.decoded_once(files, CONFIG, 8, 0)[1].mean() > 0.9


def test_calibration_yields_equal_batches_whatever_a_method_does_to_them() -> None:
    spec = classification.input_spec(CONFIG)
    calibration = TensorCalibration((torch.ones(2, 3, 8, 8),), spec, CPU, "digest", logits)
    for batch in calibration.batches():
        batch.zero_()
    (again,) = calibration.batches()
    assert again.min() == 1
    assert calibration.forward(Brightness(), again).shape == (2, 2)


def split(root: Path) -> tuple[Path, Path, list[Path]]:
    files = [save(root / "train" / "n0" / f"t{i}.JPEG", 40 * i) for i in range(3)]
    save(root / "val" / "n0" / "v0.JPEG", 9)
    return root / "train", root / "val", files


def test_separate_splits_are_accepted(tmp_path: Path) -> None:
    train, val, files = split(tmp_path)
    refuse_leak(files, train=train, val=val)


def test_train_folder_that_is_val_is_refused(tmp_path: Path) -> None:
    _, val, _ = split(tmp_path)
    train = tmp_path / "other"
    train.symlink_to(val, target_is_directory=True)
    with pytest.raises(BadInput, match="calibration would read evaluation images"):
        refuse_leak([train / "n0" / "v0.JPEG"], train=train, val=val)


@pytest.mark.parametrize("how", ["copy", "symlink", "hard link", "official name", "outside"])
def test_leaky_calibration_is_refused(tmp_path: Path, how: str) -> None:
    train, val, files = split(tmp_path)
    evaluation = val / "n0" / "v0.JPEG"
    leak = train / "n0" / "leak.JPEG"
    match how:
        case "copy":
            leak = save(train / "n0" / "v0.JPEG", 9)
        case "symlink":
            leak.symlink_to(evaluation)
        case "hard link":
            os.link(evaluation, leak)
        case "official name":
            leak = save(train / "n0" / "ILSVRC2012_val_00000007.JPEG", 9)
        case "outside":
            leak = evaluation
    with pytest.raises(BadInput, match="is an evaluation image"):
        refuse_leak([*files, leak], train=train, val=val)


def test_digest_follows_content_and_order(tmp_path: Path) -> None:
    _, _, files = split(tmp_path)
    before = files_digest(files)
    assert files_digest(files[::-1]) != before
    save(files[0], 200)
    assert files_digest(files) != before


def test_folders_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VITPTQ_DATA", raising=False)
    monkeypatch.delenv("VITPTQ_CHECKPOINTS", raising=False)
    assert (data_root(), checkpoint_root()) == (Path("data"), Path("data/checkpoints"))
    monkeypatch.setenv("VITPTQ_DATA", str(tmp_path))
    assert checkpoint_root() == tmp_path / "checkpoints"
    monkeypatch.setenv("VITPTQ_CHECKPOINTS", str(tmp_path / "weights"))
    assert checkpoint_root() == tmp_path / "weights"
