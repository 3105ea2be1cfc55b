"""The parts that detection and segmentation share, on small models and files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.files import TensorCalibration
from vitptq.tasks.openmmlab import runtime as openmmlab

CPU = torch.device("cpu")
PREPROCESSOR = {
    "type": "DetDataPreprocessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "pad_size_divisor": 32,
}


def folder(files: list[Path]) -> openmmlab.ImageList:
    steps = [{"type": "LoadImageFromFile"}, {"type": "PackDetInputs", "meta_keys": ("img_path", "img_shape")}]
    return openmmlab.ImageList(files, steps, "mmdet")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = []
    for position, (level, size) in enumerate([(250, (40, 30)), (0, (64, 64)), (128, (33, 20)), (60, (40, 30))]):
        found.append(tmp_path / f"{position}.png")
        noise = np.random.default_rng(position).integers(0, 5, (size[1], size[0], 3))
        Image.fromarray((level + noise).astype(np.uint8)).save(found[-1])
    return found


def save(path: Path, state: object) -> str:
    torch.save(state, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = openmmlab.importlib.util.find_spec
    monkeypatch.setattr(openmmlab.importlib.util, "find_spec", lambda name: None if name == "mmseg" else find(name))
    (problem,) = openmmlab.problems()
    assert problem.startswith("mmseg cannot be imported") and "install_mmcv.py" in problem


def test_mmcv_without_operators_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = openmmlab.importlib.util.find_spec
    monkeypatch.setattr(openmmlab.importlib.util, "find_spec", lambda name: None if name == "mmcv._ext" else find(name))
    openmmlab.require.cache_clear()
    with pytest.raises(Missing, match="without its compiled operators"):
        openmmlab.require("mmdet")


def test_both_libraries_build_in_one_process_without_initialisation() -> None:
    swin = {"type": "SwinTransformer", "embed_dims": 8, "num_heads": (1, 1, 1, 1), "depths": (1, 1, 1, 1)}
    pinned = {"type": "Pretrained", "checkpoint": "https://example.org/never-asked.pth"}
    for scope in ("mmdet", "mmseg", "mmdet"):
        model = openmmlab.build(swin | {"init_cfg": pinned}, scope)  # type: ignore[arg-type]
        assert type(model).__module__.startswith(scope)
        assert not model.training
        assert model.init_cfg is None


def test_checkpoint_loads_by_full_hash_and_by_openmmlabs_eight_digits(tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    digest = save(tmp_path / "model.pth", {"meta": {"epoch": 36}, "state_dict": source.state_dict()})
    openmmlab.load_checkpoint(target, tmp_path / "model.pth", digest)
    assert torch.equal(target.weight, source.weight)
    openmmlab.load_checkpoint(target, tmp_path / "model.pth", digest[:8])
    with pytest.raises(BadInput, match="pinned to"):
        openmmlab.load_checkpoint(target, tmp_path / "model.pth", digest[:7])


def test_checkpoint_of_another_code_base_is_converted(tmp_path: Path) -> None:
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    digest = save(
        tmp_path / "model.pth", {"model": {f"old.{key}": value for key, value in source.state_dict().items()}}
    )
    convert = lambda state: {key.removeprefix("old."): value for key, value in state.items()}  # noqa: E731
    openmmlab.load_checkpoint(target, tmp_path / "model.pth", digest, convert)
    assert torch.equal(target.bias, source.bias)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "missing key bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)}, "unexpected key more"),
        ({"weight": torch.zeros(5, 3), "bias": torch.zeros(2)}, "weight has another shape"),
        ({"weight": "text"}, "holds no state_dict"),
    ],
)
def test_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, state: dict[str, Any], message: str) -> None:
    digest = save(tmp_path / "model.pth", state)
    with pytest.raises(BadInput, match=message):
        openmmlab.load_checkpoint(nn.Linear(3, 2), tmp_path / "model.pth", digest)


def test_wrong_hash_corrupt_file_and_absent_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    save(file, {"state_dict": nn.Linear(3, 2).state_dict()})
    with pytest.raises(BadInput, match=r"has sha256 .*pinned to 0000"):
        openmmlab.load_checkpoint(nn.Linear(3, 2), file, "0" * 8)
    file.write_bytes(b"no checkpoint")
    with pytest.raises(BadInput, match="cannot be read as a checkpoint"):
        openmmlab.load_checkpoint(nn.Linear(3, 2), file, hashlib.sha256(b"no checkpoint").hexdigest())
    with pytest.raises(Missing, match="is not there"):
        openmmlab.load_checkpoint(nn.Linear(3, 2), tmp_path / "absent.pth", "0" * 8)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_workers_read_images_after_opencv_has_used_its_threads(files: list[Path]) -> None:
    import cv2

    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), dtype=np.uint8), (9, 9), 0)  # starts the pool
    assert len(list(openmmlab.items(folder(files), [0, 1, 2, 3], workers=2))) == 4


# Python 3.12 warns of forking beside torch's threads; torch's loader does it.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_items_come_in_order_and_spare_the_global_generator(files: list[Path], workers: int) -> None:
    before = torch.random.get_rng_state()
    found = list(openmmlab.items(folder(files), [3, 0, 2], workers=workers))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [Path(item["data_samples"].img_path).name for item in found] == ["3.png", "0.png", "2.png"]
    assert [tuple(item["inputs"].shape) for item in found] == [(3, 30, 40), (3, 30, 40), (3, 20, 33)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"not an image"), "failed to load image"),
        (lambda file: file.write_bytes(file.read_bytes()[:-300]), "truncated"),
        (lambda file: file.unlink(), "No such file"),
    ],
)
def test_damaged_image_is_named(files: list[Path], workers: int, damage: Any, message: str) -> None:
    damage(files[1])
    with pytest.raises(BadInput, match=rf"^\S+1\.png .*{message}"):
        list(openmmlab.items(folder(files), [0, 1, 2], workers=workers))


def test_calibration_batches_have_one_padded_size_each_in_order_of_appearance(files: list[Path]) -> None:
    prepare = openmmlab.preprocessor({"data_preprocessor": PREPROCESSOR}, "mmdet", CPU)
    found = openmmlab.items(folder(files), [0, 1, 2, 3], workers=0)
    batches = openmmlab.calibration_batches(found, prepare, batch_size=2, divisor=32)
    assert [tuple(batch.shape) for batch in batches] == [
        (2, 3, 32, 64),
        (1, 3, 32, 64),
        (1, 3, 64, 64),
    ]
    assert batches[0][0, 0, 0, 0] > 1.9 and batches[1].min() > -1.1
    assert torch.equal(batches[0][0, :, 30:], torch.zeros(3, 2, 64))


def test_evaluation_batches_keep_the_order_and_have_one_padded_size_each(files: list[Path]) -> None:
    found = openmmlab.items(folder(files), [0, 3, 1, 2, 0], workers=0)
    batches = list(openmmlab.equal_batches(found, size=2, divisor=32))
    names = [[Path(item["data_samples"].img_path).stem for item in batch] for batch in batches]
    assert names == [["0", "3"], ["1"], ["2", "0"]]


def test_prepared_samples_are_new_and_inputs_normalised(files: list[Path]) -> None:
    prepare = openmmlab.preprocessor({"data_preprocessor": PREPROCESSOR}, "mmdet", CPU)
    (item,) = openmmlab.items(folder(files), [1], workers=0)
    inputs, (sample,) = openmmlab.prepared(prepare, [item])
    expected = (item["inputs"][[2, 1, 0]].float() - prepare.mean) / prepare.std
    assert torch.allclose(inputs[0], expected)
    assert sample is not item["data_samples"]
    assert sample.batch_input_shape == (64, 64) and "batch_input_shape" not in item["data_samples"]


def test_calibration_yields_equal_batches_whatever_a_method_does_to_them() -> None:
    spec = InputSpec((3, 4, 4), (0, 0, 0), (1, 1, 1))

    def forward(model: nn.Module, batch: Tensor) -> tuple[Tensor, ...]:
        return (model(batch), batch)

    calibration = TensorCalibration((torch.ones(2, 3, 4, 4),), spec, CPU, "digest", forward)
    for batch in calibration.batches():
        batch.zero_()
    (again,) = calibration.batches()
    assert again.mean() == 1
    assert calibration.forward(nn.Identity(), again)[0] is again


def test_input_spec_is_on_the_scale_of_one() -> None:
    spec = openmmlab.input_spec({"data_preprocessor": PREPROCESSOR}, (800, 1344))
    assert spec.shape == (3, 800, 1344)
    assert spec.mean == pytest.approx((0.485, 0.456, 0.406)) and spec.std == pytest.approx((0.229, 0.224, 0.225))
