"""Semantic segmentation in ADE20K's folder layout with mmseg: calibration set, evaluation and score of every edition.

An edition says where its data and checkpoints are (`SegmentationTask`'s abstract members); everything that touches an
image or a prediction is here, so that the embedded edition exercises the code that reads ADE20K. mmseg takes seconds to
import, so it is imported where it is used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitptq.bench.contracts.task import Evidence, Metric, Progress, Resampler, Scene
from vitptq.bench.errors import BadInput, VitptqError
from vitptq.tasks.calibration import TensorCalibration, files_digest
from vitptq.tasks.checkpoints import sha256_of
from vitptq.tasks.decoding import ImageSource
from vitptq.tasks.file_task import plain
from vitptq.tasks.openmmlab import batches, models
from vitptq.tasks.openmmlab import images as mm_images
from vitptq.tasks.openmmlab.configs import Config
from vitptq.tasks.openmmlab.libraries import Scope
from vitptq.tasks.openmmlab.task import OpenMMLabTask
from vitptq.tasks.segmentation import evidence, images, inference, label_maps, pictures

BATCH = 8


class SegmentationTask(OpenMMLabTask):
    """mIoU on `validation`, single scale; calibration on listed images of `training`.

    A subclass names data, models and checkpoints.
    """

    scope: ClassVar[Scope] = "mmseg"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("miou", "Mean IoU", ranks=True),
        Metric("macc", "Mean class accuracy"),
        Metric("aacc", "Pixel accuracy", detail=True),
    )

    def __init__(self, *, classes: int, batch_size: int = BATCH, pictures: int = 0, **reading: Any) -> None:
        """Expect label maps of `classes` classes.

        See FileTask for the rest. What was predicted for the first `pictures` images, which must have one size, is kept
        in the evidence: for images that may be published.
        """
        if not 1 < classes <= evidence.LARGEST_CLASS_COUNT:
            raise BadInput(f"{classes} classes: a label map of 8 bits holds 2 to {evidence.LARGEST_CLASS_COUNT}")
        super().__init__(batch_size=batch_size, **reading)
        self.classes = classes
        self.pictures = pictures
        self._loaded: set[str] = set()

    @property
    def needed(self) -> Sequence[Path]:
        """Return the images of both splits and the label maps of the evaluation."""
        return [self.folder / name for name in ("images/training", "images/validation", "annotations/validation")]

    def evaluation_data(self) -> Sequence[Path]:
        """Return the evaluation images and their label maps."""
        return [self.folder / name / "validation" for name in ("images", "annotations")]

    @abstractmethod
    def dataset_config(self, model: str) -> Config:
        """Return the config of mmseg's data set with the test pipeline, without folders."""

    def details(self, model: str) -> dict[str, Any]:
        """Return what the record keeps of data, test pipeline, checkpoint file and calibration lists."""
        checkpoint = self.checkpoint_file(model)
        pipeline = {"test": self.dataset_config(model)["pipeline"], **_normalisation(self.config(model))}
        return {
            "data": {
                "version": self.data_version,
                "images": self.images,
                "classes": self.classes,
                **self.pixels_hash(model),
            },
            "transform": plain(pipeline),
            "checkpoint": {"file": checkpoint.name, "sha256": sha256_of(checkpoint)},
            "calibration": {"lists": self.calibration_source, "split": "training", "transform": "test pipeline"},
            "batch_size": self.batch_size,
        }

    def load(self, model: str, device: torch.device) -> nn.Module:
        """Return the float model in eval mode, its weights checked.

        The auxiliary head is left out: it serves training alone, and no image passes through it here.
        """
        self.card(model)
        network = self.float_model(model)
        if getattr(network, "num_classes", None) != self.classes:
            raise BadInput(
                f"{model} has {getattr(network, 'num_classes', 'no')} classes, the label maps have {self.classes}: "
                "another checkpoint or other data is needed"
            )
        if hasattr(network, "auxiliary_head"):
            del network.auxiliary_head
        return network.to(device).eval()

    def calibration(
        self, model: str, size: int, seed: int, device: torch.device
    ) -> TensorCalibration[tuple[Tensor, ...]]:
        """Return the calibration set of `calibration_names(size, seed)`; an evaluation image among them is refused."""
        config = self.config(self.card(model).name)
        files = self.listed_files(size, seed)
        validation = label_maps.image_files(self.folder / "images" / "validation", self.missing_data)
        label_maps.refuse_leak(files, validation)
        every = self.calibration_files(self.calibration_list(seed))
        source = self._calibration_source(model, f"calibration-{seed}", every)
        items = (mm_images.as_item(image, "mmseg") for image in self.calibration_images(source, size))
        prepare = models.preprocessor(config, "mmseg", torch.device("cpu"))
        found = batches.calibration_batches(items, prepare, batch_size=self.batch_size)
        return TensorCalibration(found, self.input(model), device, files_digest(files), inference.outputs)

    def forward(self, model: nn.Module, batch: Any) -> tuple[Tensor, ...]:
        """Return the backbone's feature maps and, last, the decode head's logits (see `inference.outputs`)."""
        return inference.outputs(model, batch)

    def evaluation_pairs(self) -> list[label_maps.Pair]:
        """Return the evaluation images with their label maps, every label map read once and checked."""
        found = label_maps.pairs(self.folder, "validation", self.missing_data)
        if not found or (self.images is not None and len(found) != self.images):
            expected = "some" if self.images is None else str(self.images)
            raise BadInput(
                f"{self.folder / 'images' / 'validation'} has {len(found)} images, expected {expected}: "
                "unpack the data set again"
            )
        label_maps.check(found, self.classes, self.workers)
        return found

    def check_data(self) -> int:
        """Return the number of evaluation images; raise where they and their label maps do not fit together."""
        return len(self.evaluation_pairs())

    def preload(self, model: str, progress: Progress | None = None) -> None:
        """Check every label map, and have the evaluation images decoded.

        The checkpoint comes first: one that is not the model's is known before minutes of reading.
        """
        if model not in self._loaded:
            self.load(model, torch.device("cpu"))
            self._loaded.add(model)
        super().preload(model, progress)

    def evaluation_source(self, model: str) -> ImageSource:
        """Return the evaluation images with their label maps, in the order of their names."""
        return self._evaluation_source(model, self.evaluation_pairs())

    def evaluate(
        self, model: nn.Module, name: str, device: torch.device, progress: Progress
    ) -> dict[str, NDArray[Any]]:
        """Return the pixel counts of every evaluation image, in the order of their names.

        Predictions have the size of the label map, as mmseg scores them.
        """
        pairs = self.evaluation_pairs()
        decoded = self.waiting(self.evaluation_images(name, self._evaluation_source(name, pairs)))
        found = (mm_images.as_item(image, "mmseg") for image in decoded)
        prepare = models.preprocessor(self.config(name), "mmseg", device)
        counts = torch.zeros(len(pairs), 3, self.classes, dtype=torch.int64, device=device)
        broken = torch.zeros((), dtype=torch.int64, device=device)
        maps: dict[int, Tensor] = {}
        done = 0
        model.eval()
        for batch in images.equal_sized(found, self.batch_size):
            predictions = inference.predict(model, prepare, list(batch.values()))
            for position, prediction in zip(batch, predictions, strict=True):
                labels = batch[position]["data_samples"].gt_sem_seg.data.to(device)
                inference.check_prediction(prediction, labels, self.classes)
                counts[position] = evidence.pixel_counts(prediction.pred_sem_seg.data, labels, self.classes)
                broken += ~inference.is_finite(prediction.seg_logits.data)
                if position < self.pictures:
                    maps[position] = prediction.pred_sem_seg.data[0].to(torch.uint8)
            done += len(batch)
            progress(done, len(pairs))
        if int(broken):
            raise VitptqError(
                f"the model returned logits that are not finite (NaN or infinite) for {int(broken)} of {done} images"
            )
        return evidence.as_evidence(counts, [maps[position] for position in sorted(maps)])

    def score(self, found: Evidence) -> dict[str, float]:
        """Recompute mIoU, mAcc and aAcc (percent) from evidence alone."""
        self._check(found)
        return evidence.scores(found)

    def resampler(self, found: Evidence) -> Resampler:
        """Return mIoU, mAcc and aAcc of resampled image sets."""
        self._check(found)
        return evidence.resampler(found)

    def truth(self, found: Evidence) -> str:
        """Return the hash of the labelled areas."""
        self._check(found)
        return evidence.labels_hash(found)

    def scenes(self, found: Evidence) -> Sequence[Scene]:
        """Return the first images with their labels and what was predicted; none without the images."""
        self._check(found)
        if not self.pictures or not self.folder.is_dir():
            return ()
        pairs = label_maps.pairs(self.folder, "validation", self.missing_data)
        return pictures.scenes(found, pairs)

    def count(self, found: Evidence) -> int:
        """Return how many images the evidence covers."""
        self._check(found)
        return len(found["labelled"])

    def _check(self, found: Evidence) -> None:
        evidence.check(found, classes=self.classes, images=self.images, pictures=self.pictures)

    def planned_source(self, model: str, use: str) -> ImageSource:
        """Return the images of a use without their files."""
        if use.startswith("calibration"):
            return self._calibration_source(model, use, ())
        config = self.dataset_config(self.card(model).name)
        return images.source(f"{self.name}-{self.edition}-{use}", self.folder, (), config, 0, self.workers)

    def _calibration_source(self, model: str, use: str, files: Sequence[Path]) -> ImageSource:
        steps = [step for step in self.dataset_config(model)["pipeline"] if step["type"] != "LoadAnnotations"]
        return ImageSource(
            name=f"{self.name}-{self.edition}-{use}", root=self.folder, files=[(file,) for file in files],
            reading=plain(steps), bytes_each=images.bytes_each(steps), decoders=self.workers,
            reader=lambda: mm_images.reader(mm_images.ImageList(files, steps, "mmseg")),
        )  # fmt: skip

    def _evaluation_source(self, model: str, pairs: Sequence[label_maps.Pair]) -> ImageSource:
        config = self.dataset_config(self.card(model).name)
        pixels = label_maps.check(pairs, self.classes, self.workers)
        return images.source(f"{self.name}-{self.edition}-evaluation", self.folder, pairs, config, pixels, self.workers)


def _normalisation(config: Config) -> dict[str, Any]:
    return {key: config["data_preprocessor"][key] for key in ("mean", "std", "bgr_to_rgb")}
