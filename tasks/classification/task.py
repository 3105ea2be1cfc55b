"""Image classification in ImageNet's folder layout: calibration set, evaluation and score, shared by every edition.

An edition says where its data and checkpoints are (`ClassificationTask`'s abstract members); everything that touches an
image or a prediction is here, so that the embedded edition exercises the code that reads ImageNet.
"""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.contracts.task import Evidence, Metric, Progress
from vitptq.bench.errors import BadInput, Missing, VitptqError
from vitptq.tasks.checkpoints import sha256_of
from vitptq.tasks.files import FileTask, TensorCalibration, files_digest, plain, refuse_leak, state_of

BATCH = 128
EXTENSIONS = (".jpeg", ".jpg", ".png")
LARGEST_CLASS_COUNT = 2**15

Transform = Callable[[Image.Image], Tensor]


class ClassificationTask(FileTask):
    """Top-1 accuracy on `val/`, calibration on listed images of `train/`.

    A subclass names data, models and checkpoints.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("top1", "Top-1 accuracy", proportion=True, ranks=True),)

    def __init__(self, *, classes: int, images: int | None, batch_size: int = BATCH, **reading: Any) -> None:
        """Expect `classes` class folders and `images` evaluation images (None: any number); see FileTask for the rest.

        An evaluation set that does not fit into `cache_bytes` is not kept at all.
        """
        if not 1 < classes <= LARGEST_CLASS_COUNT:
            raise BadInput(f"{classes} classes: the evidence holds 2 to {LARGEST_CLASS_COUNT}")
        super().__init__(images=images, batch_size=batch_size, **reading)
        self.classes = classes

    @property
    def needed(self) -> Sequence[Path]:
        """Return the two splits."""
        return self.folder / "train", self.folder / "val"

    @abstractmethod
    def data_config(self, model: str) -> dict[str, Any]:
        """Return the checkpoint's own data config, as timm names its entries."""

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return where the listed images are; here a name is a path in `folder`."""
        return [self.folder / name for name in names]

    def details(self, model: str) -> dict[str, Any]:
        """Return what the record keeps of data, transform, checkpoint file and calibration lists."""
        checkpoint = self.checkpoint_file(model)
        return {
            "data": {"version": self.data_version, "images": self.images, "classes": self.classes},
            "transform": plain(resolved(self.data_config(model))),
            "checkpoint": {"file": checkpoint.name, "sha256": sha256_of(checkpoint)},
            "calibration": {"lists": self.calibration_source, "split": "train", "transform": "evaluation"},
            "batch_size": self.batch_size,
        }

    def load(self, model: str, device: torch.device) -> nn.Module:
        """Return the float model in eval mode, its weights checked."""
        self.card(model)
        return self.float_model(model).to(device).eval()

    def calibration(self, model: str, size: int, seed: int, device: torch.device) -> TensorCalibration[Tensor]:
        """Return the calibration set of `calibration_names(size, seed)`; an evaluation image among them is refused."""
        config = self.data_config(self.card(model).name)
        files = self.listed_files(size, seed)
        refuse_leak(files, train=self.folder / "train", val=self.folder / "val")
        workers = self._workers_for(len(files), config)
        batches = tuple(decoded(files, transform(config), batch_size=BATCH, workers=workers))
        return TensorCalibration(batches, input_spec(config), device, files_digest(files), logits)

    def input(self, model: str) -> InputSpec:
        """Return shape and normalisation of the model's input."""
        return input_spec(self.data_config(self.card(model).name))

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits (images, classes)."""
        return logits(model, batch)

    def evaluate(
        self, model: nn.Module, name: str, device: torch.device, progress: Progress
    ) -> dict[str, NDArray[Any]]:
        """Return the predicted class and the label of every evaluation image, in the order of their names."""
        files, labels = self.evaluation_files()
        batches = self._evaluation_batches(files, self.data_config(self.card(name).name), device)
        predictions = predict(model, batches, total=len(files), classes=self.classes, device=device, progress=progress)
        return {"predictions": predictions, "labels": labels}

    def evaluation_files(self) -> tuple[list[Path], NDArray[np.int16]]:
        """Return the evaluation images and their labels by class and name; a wrong number is refused."""
        folders = class_folders(self.folder / "val", self.missing_data, self.classes)
        per_class = [image_files(folder) for folder in folders]
        files = [file for listed in per_class for file in listed]
        if not files or (self.images is not None and len(files) != self.images):
            expected = "some" if self.images is None else str(self.images)
            raise BadInput(
                f"{self.folder / 'val'} has {len(files)} images, expected {expected}: unpack the split again"
            )
        labels = np.repeat(np.arange(len(folders), dtype=np.int16), [len(listed) for listed in per_class])
        return files, labels

    def score(self, evidence: Evidence) -> dict[str, float]:
        """Recompute top-1 accuracy (percent) from evidence alone."""
        right = self.correct(evidence)
        return {"top1": 100.0 * int(np.count_nonzero(right)) / len(right)}

    def correct(self, evidence: Evidence) -> NDArray[np.bool_]:
        """Return per image whether the most likely class is the label."""
        self._check_evidence(evidence)
        return np.equal(evidence["predictions"], evidence["labels"])

    def truth(self, evidence: Evidence) -> str:
        """Return the hash of the labels."""
        return hashlib.sha256(np.ascontiguousarray(evidence["labels"]).tobytes()).hexdigest()

    def preload(self, model: str) -> None:
        """Decode the evaluation images, where they fit into memory."""
        config = self.data_config(self.card(model).name)
        files, _ = self.evaluation_files()
        if _bytes(len(files), config) <= self.cache_bytes:
            decoded_once(files, config, self.batch_size, self._workers_for(len(files), config))

    def drop_images(self) -> None:
        """Drop the decoded evaluation images."""
        _DECODED.clear()

    def count(self, evidence: Evidence) -> int:
        """Return how many images the evidence covers."""
        self._check_evidence(evidence)
        return len(evidence["labels"])

    def _check_evidence(self, evidence: Evidence) -> None:
        if sorted(evidence) != ["labels", "predictions"]:
            raise BadInput(f"evidence has {', '.join(sorted(evidence)) or 'nothing'}; expected labels, predictions")
        for name, values in evidence.items():
            if values.dtype != np.int16 or values.ndim != 1:
                raise BadInput(
                    f"evidence {name} is {values.dtype} of shape {values.shape}; expected int16, one per image"
                )
            outside = values[(values < 0) | (values >= self.classes)]
            if len(outside):
                raise BadInput(f"evidence {name} has class {outside[0]}; classes are 0 to {self.classes - 1}")
        counts = {name: len(values) for name, values in sorted(evidence.items())}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise BadInput(f"evidence has {counts['predictions']} predictions for {counts['labels']} labels")
        if self.images is not None and counts["labels"] != self.images:
            raise BadInput(f"evidence covers {counts['labels']} images; the evaluation set has {self.images}")

    def _evaluation_batches(self, files: list[Path], config: dict[str, Any], device: torch.device) -> Iterator[Tensor]:
        workers = self._workers_for(len(files), config)
        if _bytes(len(files), config) <= self.cache_bytes:
            return iter(decoded_once(files, config, self.batch_size, workers).split(self.batch_size))
        pin = device.type == "cuda"
        return decoded(files, transform(config), batch_size=self.batch_size, workers=workers, pin_memory=pin)

    def _workers_for(self, images: int, config: dict[str, Any]) -> int:
        # Starting processes takes longer than decoding little: 128 images of 224 pixels are 77 MB.
        return 0 if _bytes(images, config) < 77e6 else self.workers


def logits(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the logits (images, classes)."""
    found: Tensor = model(batch)
    return found


def predict(
    model: nn.Module, batches: Iterable[Tensor], *, total: int, classes: int, device: torch.device, progress: Progress
) -> NDArray[np.int16]:
    """Return the predicted class of every image as int16; a logit that is not finite anywhere is an error.

    The largest of NaNs is whatever the machine finds first, so a diverged model has no predictions worth a score: its
    cell fails, and the reason says how many images are affected.
    """
    model.eval()
    found: list[Tensor] = []
    broken = torch.zeros((), dtype=torch.int64, device=device)
    done = 0
    for batch in batches:
        with torch.no_grad():
            logits = model(batch.to(device, non_blocking=True))
        _check_logits(logits, len(batch), classes)
        broken += (~logits.isfinite()).any(dim=1).sum()
        found.append(logits.argmax(dim=1).to(torch.int16))
        done += len(batch)
        progress(done, total)
    if int(broken):
        raise VitptqError(
            f"the model returned logits that are not finite (NaN or infinite) for {int(broken)} of {done} images"
        )
    predictions: NDArray[np.int16] = torch.cat(found).cpu().numpy()
    return predictions


def resolved(config: dict[str, Any]) -> dict[str, Any]:
    """Return the data config with timm's defaults filled in."""
    complete: dict[str, Any] = resolve_data_config(pretrained_cfg=config)
    return complete


def transform(config: dict[str, Any]) -> Transform:
    """Return timm's evaluation transform of the data config."""
    steps: Transform = create_transform(**resolved(config), is_training=False)
    return steps


def input_spec(config: dict[str, Any]) -> InputSpec:
    """Return shape and normalisation of the model's input."""
    complete = resolved(config)
    return InputSpec(tuple(complete["input_size"]), tuple(complete["mean"]), tuple(complete["std"]))


def _bytes(images: int, config: dict[str, Any]) -> int:
    return images * 4 * int(np.prod(input_spec(config).shape))


def decoded(
    files: Sequence[Path], steps: Transform, *, batch_size: int, workers: int, pin_memory: bool = False
) -> Iterator[Tensor]:
    """Yield the images in order, `batch_size` at a time; an unreadable one raises an error that names it."""
    loader = DataLoader(
        ImageFiles(files, steps),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        # Without its own generator, a loader draws from the global one and so changes what a method draws later.
        generator=torch.Generator().manual_seed(0),
    )
    for batch in loader:
        if isinstance(batch, VitptqError):
            raise batch
        yield batch


class ImageFiles(Dataset["Tensor | VitptqError"]):
    """Images by position.

    An unreadable one comes as the error: raised in a worker process, it would arrive wrapped in a traceback.
    """

    def __init__(self, files: Sequence[Path], steps: Transform) -> None:
        """Read nothing yet."""
        self.files = [str(file) for file in files]
        self.steps = steps

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | VitptqError:
        try:
            return self.steps(read_image(self.files[index]))
        except VitptqError as error:
            return error


def read_image(path: str) -> Image.Image:
    """Return the image in RGB."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged files
        raise BadInput(f"{path} is not a readable image ({error}); copy or unpack this file again") from error


def decoded_once(files: Sequence[Path], config: dict[str, Any], batch_size: int, workers: int) -> Tensor:
    """Return all images in one tensor, the same one while neither the files nor the config change.

    One set is kept per process: the cells of one task come one after the other.
    """
    key = state_of(files, resolved(config))
    if key not in _DECODED:
        _DECODED.clear()
        _DECODED[key] = torch.cat(list(decoded(files, transform(config), batch_size=batch_size, workers=workers)))
    return _DECODED[key]


_DECODED: dict[str, Tensor] = {}


def class_folders(split: Path, missing: str, classes: int) -> list[Path]:
    """Return the class folders, sorted (a class's index is its place here); a wrong number is refused."""
    if not split.is_dir():
        raise Missing(f"{split} is not there. {missing}")
    with os.scandir(split) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    if len(names) != classes:
        raise BadInput(
            f"{split} has {len(names)} class folders, the models have {classes} classes: "
            f"each class needs its own folder, {split}/<class>/*.JPEG"
        )
    return [split / name for name in names]


def image_files(folder: Path) -> list[Path]:
    """Return the images of a class folder, sorted by name."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS))
    return [folder / name for name in names if not name.startswith(".")]


def _check_logits(logits: object, images: int, classes: int) -> None:
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (images, classes):
        raise BadInput(f"the model returned {shape} for {images} images; expected logits of shape {(images, classes)}")


def _collate(items: list[Tensor | VitptqError]) -> Tensor | VitptqError:
    images = []
    for item in items:
        if isinstance(item, VitptqError):
            return item
        images.append(item)
    return torch.stack(images)
