"""Semantic segmentation in ADE20K's folder layout with mmseg: calibration set, evaluation and score of every edition.

An edition says where its data and checkpoints are (`Ade20kTask`'s abstract members); everything that touches an
image or a prediction is here, so that the embedded edition exercises the code that reads ADE20K. mmseg takes seconds to
import, so it is imported where it is used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.contracts.task import Drawing, Evidence, Metric, Progress, Scene
from vitptq.bench.errors import BadInput, VitptqError
from vitptq.tasks.checkpoints import sha256_of
from vitptq.tasks.files import FileTask, TensorCalibration, files_digest, plain
from vitptq.tasks.openmmlab import runtime as openmmlab
from vitptq.tasks.openmmlab.runtime import Item
from vitptq.tasks.segmentation import batches, iou, label_maps

BATCH = 8
FEW_PIXELS = 25_000_000

Config = dict[str, Any]


class Ade20kTask(FileTask):
    """mIoU on `validation`, single scale; calibration on listed images of `training`.

    A subclass names data, models and checkpoints.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("miou", "Mean IoU", ranks=True),
        Metric("macc", "Mean class accuracy"),
        Metric("aacc", "Pixel accuracy", detail=True),
    )

    def __init__(
        self, *, classes: int, images: int | None, batch_size: int = BATCH, pictures: int = 0, **reading: Any
    ) -> None:
        """Expect label maps of `classes` classes and `images` evaluation images (None: any number).

        See FileTask for the rest; of an evaluation set larger than `cache_bytes`, the first images are kept.
        The evidence keeps what was predicted for the first `pictures` images, which must have one size: for images that
        may be published.
        """
        if not 1 < classes <= iou.LARGEST_CLASS_COUNT:
            raise BadInput(f"{classes} classes: a label map of 8 bits holds 2 to {iou.LARGEST_CLASS_COUNT}")
        super().__init__(images=images, batch_size=batch_size, **reading)
        self.classes = classes
        self.pictures = pictures
        self._loaded: set[str] = set()

    @property
    def needed(self) -> Sequence[Path]:
        """Return the images of both splits and the label maps of the evaluation."""
        return [self.folder / name for name in ("images/training", "images/validation", "annotations/validation")]

    @abstractmethod
    def model_config(self, model: str) -> Config:
        """Return the model's config, as mmseg reads it."""

    @abstractmethod
    def dataset_config(self, model: str) -> Config:
        """Return the config of mmseg's data set with the test pipeline, without folders."""

    @abstractmethod
    def input_size(self, model: str) -> tuple[int, int]:
        """Return the usual (height, width) of what the model reads."""

    def problems(self, model: str) -> list[str]:
        """Say what is missing on this machine to run `model`: one sentence each, with the next step."""
        return openmmlab.problems() + super().problems(model)

    def details(self, model: str) -> dict[str, Any]:
        """Return what the record keeps of data, test pipeline, checkpoint file and calibration lists."""
        checkpoint = self.checkpoint_file(model)
        pipeline = {"test": self.dataset_config(model)["pipeline"], **_normalisation(self.model_config(model))}
        return {
            "data": {"version": self.data_version, "images": self.images, "classes": self.classes},
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
        config = self.model_config(self.card(model).name)
        files = self.listed_files(size, seed)
        validation = label_maps.image_files(self.folder / "images" / "validation", self.missing_data)
        label_maps.refuse_leak(files, validation)
        steps = [step for step in self.dataset_config(model)["pipeline"] if step["type"] != "LoadAnnotations"]
        listed = openmmlab.ImageList(files, steps, "mmseg")
        found = openmmlab.items(listed, range(len(files)), workers=0)
        prepare = openmmlab.preprocessor(config, "mmseg", torch.device("cpu"))
        found_batches = openmmlab.calibration_batches(found, prepare, batch_size=self.batch_size)
        return TensorCalibration(found_batches, self.input(model), device, files_digest(files), outputs)

    def input(self, model: str) -> InputSpec:
        """Return shape and normalisation of the model's input; the full edition's images vary in size."""
        return openmmlab.input_spec(self.model_config(self.card(model).name), self.input_size(model))

    def forward(self, model: nn.Module, batch: Any) -> tuple[Tensor, ...]:
        """Return the backbone's feature maps and, last, the decode head's logits (see `outputs`)."""
        return outputs(model, batch)

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

    def preload(self, model: str) -> None:
        """Check every label map, and decode the evaluation images that fit into memory.

        The checkpoint comes first: one that is not the model's is known before minutes of reading.
        """
        if model not in self._loaded:
            self.load(model, torch.device("cpu"))
            self._loaded.add(model)
        pairs = self.evaluation_pairs()
        batches.keep(self._source(model), pairs, self.cache_bytes, self._workers_for(pairs))

    def drop_images(self) -> None:
        """Drop the decoded evaluation images."""
        batches.forget()

    def evaluate(
        self, model: nn.Module, name: str, device: torch.device, progress: Progress
    ) -> dict[str, NDArray[Any]]:
        """Return the pixel counts of every evaluation image, in the order of their names.

        Predictions have the size of the label map, as mmseg scores them.
        """
        pairs = self.evaluation_pairs()
        found = batches.evaluation_items(self._source(name), pairs, self.cache_bytes, self._workers_for(pairs))
        prepare = openmmlab.preprocessor(self.model_config(name), "mmseg", device)
        counts = torch.zeros(len(pairs), 3, self.classes, dtype=torch.int64, device=device)
        broken = torch.zeros((), dtype=torch.int64, device=device)
        maps: dict[int, Tensor] = {}
        done = 0
        model.eval()
        for batch in batches.equal_sized(found, self.batch_size):
            for position, prediction in zip(batch, predict(model, prepare, list(batch.values())), strict=True):
                labels = batch[position]["data_samples"].gt_sem_seg.data.to(device)
                _check_prediction(prediction, labels, self.classes)
                counts[position] = iou.pixel_counts(prediction.pred_sem_seg.data, labels, self.classes)
                broken += ~_is_finite(prediction.seg_logits.data)
                if position < self.pictures:
                    maps[position] = prediction.pred_sem_seg.data[0].to(torch.uint8)
            done += len(batch)
            progress(done, len(pairs))
        if int(broken):
            raise VitptqError(
                f"the model returned logits that are not finite (NaN or infinite) for {int(broken)} of {done} images"
            )
        return iou.as_evidence(counts, [maps[position] for position in sorted(maps)])

    def score(self, evidence: Evidence) -> dict[str, float]:
        """Recompute mIoU, mAcc and aAcc (percent) from evidence alone."""
        self._check_evidence(evidence)
        return iou.scores(evidence)

    def truth(self, evidence: Evidence) -> str:
        """Return the hash of the labelled areas."""
        return iou.labels_hash(evidence)

    def scenes(self, evidence: Evidence) -> Sequence[Scene]:
        """Return the first images with their labels and what was predicted; none without the images."""
        self._check_evidence(evidence)
        if not self.pictures or not self.folder.is_dir():
            return ()
        pairs = label_maps.pairs(self.folder, "validation", self.missing_data)
        return [_scene(pair, found) for pair, found in zip(pairs, evidence[iou.MAPS], strict=False)]

    def count(self, evidence: Evidence) -> int:
        """Return how many images the evidence covers."""
        self._check_evidence(evidence)
        return len(evidence["labelled"])

    def _check_evidence(self, evidence: Evidence) -> None:
        iou.check(evidence, classes=self.classes, images=self.images, pictures=self.pictures)

    def _workers_for(self, pairs: Sequence[label_maps.Pair]) -> int:
        # Starting processes takes longer than decoding little.
        return 0 if label_maps.check(pairs, self.classes, self.workers) < FEW_PIXELS else self.workers

    def _source(self, model: str) -> Any:
        return batches.dataset(self.dataset_config(self.card(model).name), self.folder, "validation")


def outputs(model: nn.Module, batch: Any) -> tuple[Tensor, ...]:
    """Return the backbone's feature maps and, last, the decode head's logits (B, classes, H / s, W / s).

    `batch` is (B, 3, H, W), `s` the stride of the finest feature map; `model` is one of mmseg's `EncoderDecoder`.
    """
    network: Any = model
    features = tuple(network.backbone(batch))
    return (*features, network.decode_head(network.neck(features) if network.with_neck else features))


def predict(model: nn.Module, prepare: nn.Module, items: list[Item]) -> list[Any]:
    """Return mmseg's predictions for items of one size: logits and labels at the size of the label maps."""
    inputs, samples = openmmlab.prepared(prepare, items)
    with torch.no_grad():
        found: list[Any] = model(inputs, samples, mode="predict")
    return found


def _scene(pair: label_maps.Pair, found: NDArray[np.uint8]) -> Scene:
    """Return a drawing of an image; class 0 is the background and stays clear."""
    labels = label_maps.read_labels(pair.labels)
    truth = np.where(np.isin(labels, label_maps.NO_LABEL), 0, labels - np.uint8(1)).astype(np.uint8)
    with Image.open(pair.image) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Scene(pair.image.stem, pixels, Drawing(truth), Drawing(found))


def _check_prediction(prediction: Any, labels: Tensor, classes: int) -> None:
    shape = tuple(prediction.seg_logits.data.shape)
    if shape != (classes, *labels.shape[-2:]):
        raise BadInput(
            f"the model returned logits of shape {shape} for a label map of {tuple(labels.shape[-2:])} and {classes} "
            "classes"
        )


def _is_finite(logits: Tensor) -> Tensor:
    # the extremes are NaN where any value is, and cost no copy of the logits
    return torch.stack(torch.aminmax(logits)).isfinite().all()


def _normalisation(config: Config) -> dict[str, Any]:
    return {key: config["data_preprocessor"][key] for key in ("mean", "std", "bgr_to_rgb")}
