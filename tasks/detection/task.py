"""Detection and instance segmentation in COCO's layout with mmdet's two-stage detectors: shared by every edition.

An edition says where its data and checkpoints are (`DetectionTask`'s abstract members); annotations, calibration,
evaluation and score are here, so that the embedded edition exercises the code that reads COCO.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitptq.bench.contracts.task import Evidence, Metric, Progress, Resampler
from vitptq.bench.errors import BadInput, Missing, VitptqError
from vitptq.tasks.calibration import TensorCalibration, files_digest, refuse_leak
from vitptq.tasks.checkpoints import sha256_of
from vitptq.tasks.detection import evidence, ground_truth, inference, resampling
from vitptq.tasks.detection.evidence import Detections
from vitptq.tasks.detection.ground_truth import Annotations
from vitptq.tasks.file_task import plain, set_aside, state_of
from vitptq.tasks.openmmlab import batches, images, libraries, models
from vitptq.tasks.openmmlab.images import Item
from vitptq.tasks.openmmlab.libraries import Scope
from vitptq.tasks.openmmlab.operators import ensure_ops
from vitptq.tasks.openmmlab.task import OpenMMLabTask

LITTLE_BYTES = 77e6  # starting processes takes longer than decoding this much
META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")


class DetectionTask(OpenMMLabTask):
    """Box and mask AP on `val2017/`, calibration on listed images of `train2017/`."""

    scope: ClassVar[Scope] = "mmdet"
    metrics: ClassVar[tuple[Metric, ...]] = evidence.METRICS

    def __init__(self, *, scale: tuple[int, int], size: tuple[int, int], **reading: Any) -> None:
        """Resize images to fit into `scale` (long side, short side).

        `size` is the usual (height, width) of what the model then reads. See FileTask for the rest; an evaluation set
        that does not fit into `cache_bytes` is not kept at all.
        """
        super().__init__(**reading)
        self.scale = scale
        self.size = size

    @property
    def needed(self) -> Sequence[Path]:
        """Return the two splits and the annotations."""
        return self.train, self.val, self.annotation_file

    def evaluation_folders(self) -> Sequence[Path]:
        """Return the evaluation images and their annotations."""
        return self.val, self.annotation_file

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Return the checkpoints' classes, in the order of their outputs."""

    @property
    def annotation_file(self) -> Path:
        """Return the evaluation split's annotations."""
        return self.folder / "annotations" / "instances_val2017.json"

    @property
    def train(self) -> Path:
        """Return the folder of the training images."""
        return self.folder / "train2017"

    @property
    def val(self) -> Path:
        """Return the folder of the evaluation images."""
        return self.folder / "val2017"

    @property
    def pipeline(self) -> list[dict[str, Any]]:
        """Return mmdet's test pipeline, without the step that reads annotations: nothing here trains."""
        return [
            {"type": "LoadImageFromFile"},
            {"type": "Resize", "scale": self.scale, "keep_ratio": True},
            {"type": "PackDetInputs", "meta_keys": META},
        ]

    def details(self, model: str) -> dict[str, Any]:
        """Return what the record keeps of data, transform, checkpoint file, calibration lists and evaluator."""
        file = self.checkpoint_file(model)
        return {
            "data": {"version": self.data_version, "images": self.images, "classes": len(self.classes)},
            "transform": {"scale": list(self.scale), "preprocessor": plain(self.config(model)["data_preprocessor"])},
            "checkpoint": {"file": file.name, "sha256": sha256_of(file)},
            "calibration": {"lists": self.calibration_source, "split": "train2017", "transform": "evaluation"},
            "batch_size": self.batch_size,
            "evaluator": f"{evidence.evaluator()} {version(evidence.evaluator())}",
        }

    def load(self, model: str, device: torch.device) -> nn.Module:
        """Return the float model in eval mode, its weights checked."""
        self.card(model)
        ensure_ops(device)
        network = self.float_model(model).to(device)
        network.eval()  # in a line of its own: mmdet's backbones return nothing from it
        return network

    def calibration(
        self, model: str, size: int, seed: int, device: torch.device
    ) -> TensorCalibration[tuple[Tensor, ...]]:
        """Return the calibration set of `calibration_names(size, seed)`; an evaluation image among them is refused."""
        config = self.config(self.card(model).name)
        files = self.listed_files(size, seed)
        refuse_leak(files, train=self.train, val=self.val)
        listed = images.ImageList(files, self.pipeline, "mmdet")
        prepare = models.preprocessor(config, "mmdet", torch.device("cpu"))
        found = batches.calibration_batches(
            images.items(listed, range(len(files)), workers=self._workers_for(len(files))),
            prepare,
            batch_size=self.batch_size,
            divisor=prepare.pad_size_divisor,
        )
        return TensorCalibration(found, self.input(model), device, files_digest(files), inference.outputs)

    def input_size(self, model: str) -> tuple[int, int]:
        """Return the usual (height, width) of what the model reads."""
        return self.size

    def forward(self, model: nn.Module, batch: Any) -> tuple[Tensor, ...]:
        """Return features, proposals' scores and deltas, boxes' scores and deltas, masks (see `inference.outputs`)."""
        return inference.outputs(model, batch)

    def annotations(self) -> Annotations:
        """Return the evaluation split's annotations, compared with the images that are there."""
        if not self.annotation_file.is_file():
            raise Missing(f"{self.annotation_file} is not there. {self.missing_data}")
        found = ground_truth.read(self.annotation_file, self.classes)
        if self.images is not None and len(found.names) != self.images:
            raise BadInput(
                f"{self.annotation_file} lists {len(found.names)} images, expected {self.images}: "
                "download or generate it again"
            )
        ground_truth.compare_with_folder(found, self.val, self.workers)
        return found

    def check_data(self) -> int:
        """Return the number of evaluation images; raise where annotations and images do not fit together."""
        return len(self.annotations().names)

    def preload(self, model: str) -> None:
        """Read the annotations, and decode the evaluation images where they fit into memory."""
        libraries.require("mmdet")
        self.card(model)
        truth = self.annotations()
        if self._bytes(len(truth.names)) <= self.cache_bytes:
            self._evaluation_items(truth)

    def drop_images(self) -> None:
        """Drop the decoded evaluation images."""
        _DECODED.clear()

    def images_set_aside(self) -> AbstractContextManager[None]:
        """Keep the decoded evaluation images out of this module inside."""
        return set_aside(_DECODED)

    def evaluate(
        self, model: nn.Module, name: str, device: torch.device, progress: Progress
    ) -> dict[str, NDArray[Any]]:
        """Return detections and ground truth of every evaluation image, in the order of the annotation file."""
        truth = self.annotations()
        prepare = models.preprocessor(self.config(self.card(name).name), "mmdet", device)
        found: dict[int, Detections] = {}
        broken = done = 0
        model.eval()
        positions = {image: position for position, image in enumerate(truth.image_ids.tolist())}
        for batch in batches.equal_batches(
            self._evaluation_items(truth), size=self.batch_size, divisor=prepare.pad_size_divisor
        ):
            detections, bad = inference.detect(model, *batches.prepared(prepare, batch))
            broken += bad
            done += len(batch)
            ids = (item["data_samples"].img_id for item in batch)
            found.update({positions[image]: one for image, one in zip(ids, detections, strict=False)})
            progress(done, len(positions))
        if broken:
            raise VitptqError(
                f"the model returned values that are not finite (NaN or infinite) for {broken} of {done} images"
            )
        return evidence.evidence(truth, (found[position] for position in range(len(positions))))

    def score(self, found: Evidence) -> dict[str, float]:
        """Recompute box and mask AP (percent) from evidence alone; one that is not defined is left out."""
        self._check(found)
        return evidence.scores(dict(found))

    def resampler(self, found: Evidence) -> Resampler:
        """Return box and mask AP of resampled image sets; every match is made here, once."""
        self._check(found)
        return resampling.resampler(dict(found))

    def truth(self, found: Evidence) -> str:
        """Return the hash of images and ground truth."""
        self._check(found)
        return evidence.truth_hash(found)

    def count(self, found: Evidence) -> int:
        """Return how many images the evidence covers."""
        self._check(found)
        return len(found["image_ids"])

    def _check(self, found: Evidence) -> None:
        evidence.check(found, images=self.images, classes=len(self.classes))

    def _bytes(self, count: int) -> int:
        return count * 3 * self.scale[0] * self.scale[1]

    def _workers_for(self, count: int) -> int:
        return 0 if self._bytes(count) < LITTLE_BYTES else self.workers

    def _evaluation_items(self, truth: Annotations) -> Iterable[Item]:
        """Return what the pipeline makes of the images, those of equal size together."""
        sizes = truth.sizes.tolist()
        order = sorted(range(len(sizes)), key=lambda position: (sizes[position], position))
        workers = self._workers_for(len(order))
        if self._bytes(len(order)) > self.cache_bytes:
            return images.items(self._dataset(), order, workers=workers)
        key = state_of([self.annotation_file, *(self.val / name for name in truth.names)], self.pipeline)
        if key not in _DECODED:
            _DECODED.clear()
            _DECODED[key] = list(images.items(self._dataset(), order, workers=workers))
        return _DECODED[key]

    def _dataset(self) -> Any:
        """Return mmdet's data set of the evaluation split, images in the order of the annotation file."""
        config = {
            "type": "CocoDataset",
            "ann_file": str(self.annotation_file.absolute()),
            "data_prefix": {"img": str(self.val.absolute())},
            "metainfo": {"classes": self.classes},
            "pipeline": self.pipeline,
            "test_mode": True,
        }
        return images.dataset(config, "mmdet")


_DECODED: dict[str, list[Item]] = {}
"""The decoded evaluation images of one task: the cells of a task come one after the other."""
