"""Image classification in ImageNet's folder layout: calibration set, evaluation and score, shared by every edition.

An edition says where its data and checkpoints are (`ClassificationTask`'s abstract members); everything that touches an
image or a prediction is here, so that the embedded edition exercises the code that reads ImageNet.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.contracts.task import Evidence, Metric, Progress
from vitptq.bench.errors import BadInput
from vitptq.tasks.calibration import TensorCalibration, files_digest, refuse_leak, refuse_same_split
from vitptq.tasks.checkpoints import sha256_of
from vitptq.tasks.classification import evidence, images, inference
from vitptq.tasks.decoding import ImageSource, decoded, made_ahead
from vitptq.tasks.file_task import FileTask, plain

BATCH = 128


class ClassificationTask(FileTask):
    """Top-1 accuracy on `val/`, calibration on listed images of `train/`.

    A subclass names data, models and checkpoints.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("top1", "Top-1 accuracy", proportion=True, ranks=True),)

    def __init__(self, *, classes: int, batch_size: int = BATCH, **reading: Any) -> None:
        """Expect `classes` class folders; see FileTask for the rest."""
        if not 1 < classes <= evidence.LARGEST_CLASS_COUNT:
            raise BadInput(f"{classes} classes: the evidence holds 2 to {evidence.LARGEST_CLASS_COUNT}")
        super().__init__(batch_size=batch_size, **reading)
        self.classes = classes

    @property
    def needed(self) -> Sequence[Path]:
        """Return the two splits."""
        return self.folder / "train", self.folder / "val"

    @property
    def class_names(self) -> Sequence[str]:
        """Return the names of the class folders; empty where any names will do."""
        return ()

    def evaluation_data(self) -> Sequence[Path]:
        """Return the evaluation split."""
        return (self.folder / "val",)

    @abstractmethod
    def data_config(self, model: str) -> dict[str, Any]:
        """Return the checkpoint's own data config, as timm names its entries."""

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return where the listed images are; here a name is a path in `folder`."""
        folder = self.folder
        return [folder / name for name in names]

    def details(self, model: str) -> dict[str, Any]:
        """Return what the record keeps of data, transform, checkpoint file and calibration lists."""
        checkpoint = self.checkpoint_file(model)
        return {
            "data": {
                "version": self.data_version,
                "images": self.images,
                "classes": self.classes,
                **self.pixels_hash(model),
            },
            "transform": plain(images.resolved(self.data_config(model))),
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
        train, val = self.needed
        refuse_same_split(train, val)
        files = self.listed_files(size, seed)
        self._compare_splits()
        refuse_leak(files, train=train, val=val)
        source = self._source(f"calibration-{seed}", self.calibration_files(self.calibration_list(seed)), config)
        batches = tuple(images.batches(self.calibration_images(source, size), BATCH))
        return TensorCalibration(
            batches, images.input_spec(config), device, files_digest(files), inference.logits, images.Normalise(config)
        )

    def input(self, model: str) -> InputSpec:
        """Return shape and normalisation of the model's input."""
        return images.input_spec(self.data_config(self.card(model).name))

    def real_batch(self, model: str, count: int, device: torch.device) -> Tensor:
        """Return evaluation images of different classes."""
        files, _ = self.evaluation_files()
        spread = files[:: max(1, len(files) // count)][:count]
        config = self.data_config(self.card(model).name)
        found = decoded(self._source("real-batch", spread, config))
        return images.Normalise(config)(next(images.batches(found, count)), device)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits (images, classes)."""
        return inference.logits(model, batch)

    def evaluate(
        self, model: nn.Module, name: str, device: torch.device, progress: Progress
    ) -> dict[str, NDArray[Any]]:
        """Return the predicted class and the label of every evaluation image, in the order of their names."""
        files, labels = self.evaluation_files()
        config = self.data_config(self.card(name).name)
        found = self.evaluation_images(name, self._source("evaluation", files, config))
        on_gpu, normalise = device.type == "cuda", images.Normalise(config)
        pixels = images.batches(found, self.batch_size, pin_memory=on_gpu)
        predictions = inference.predict(
            model,
            (normalise(batch, device) for batch in self.waiting(made_ahead(pixels) if on_gpu else pixels)),
            total=len(labels), classes=self.classes, progress=progress,
        )  # fmt: skip
        return {"predictions": predictions, "labels": labels}

    def evaluation_source(self, model: str) -> ImageSource:
        """Return the evaluation images in the order of their names."""
        return self._source("evaluation", self.evaluation_files()[0], self.data_config(self.card(model).name))

    def planned_source(self, model: str, use: str) -> ImageSource:
        """Return the images of a use without their files."""
        return self._source(use, (), self.data_config(self.card(model).name))

    def evaluation_files(self) -> tuple[list[Path], NDArray[np.int16]]:
        """Return the evaluation images and their labels by class and name; a wrong number is refused."""
        folders = images.class_folders(self.folder / "val", self.missing_data, self.classes, self.class_names)
        self._compare_splits()
        per_class = [images.image_files(folder) for folder in folders]
        files = [file for listed in per_class for file in listed]
        if not files or (self.images is not None and len(files) != self.images):
            expected = "some" if self.images is None else str(self.images)
            raise BadInput(
                f"{self.folder / 'val'} has {len(files)} images, expected {expected}: unpack the split again"
            )
        labels = np.repeat(np.arange(len(folders), dtype=np.int16), [len(listed) for listed in per_class])
        return files, labels

    def score(self, found: Evidence) -> dict[str, float]:
        """Recompute top-1 accuracy (percent) from evidence alone."""
        self._check(found)
        return {"top1": evidence.top1(found)}

    def correct(self, found: Evidence) -> NDArray[np.bool_]:
        """Return per image whether the most likely class is the label."""
        self._check(found)
        return evidence.correct(found)

    def truth(self, found: Evidence) -> str:
        """Return the hash of the labels."""
        self._check(found)
        return evidence.labels_hash(found["labels"])

    def count(self, found: Evidence) -> int:
        """Return how many images the evidence covers."""
        self._check(found)
        return len(found["labels"])

    def check_data(self) -> int:
        """Return the number of evaluation images; raise where they or the classes are not those of the models."""
        files, _ = self.evaluation_files()
        return len(files)

    def _compare_splits(self) -> None:
        train, val = self.needed
        if train.is_dir() and val.is_dir():
            images.refuse_other_classes(train, val)

    def _check(self, found: Evidence) -> None:
        evidence.check(found, classes=self.classes, images=self.images)

    def _source(self, use: str, files: Sequence[Path], config: dict[str, Any]) -> ImageSource:
        return images.source(f"{self.name}-{self.edition}-{use}", self.folder, files, config, self.workers)
