"""Detection and instance segmentation in COCO's layout with mmdet's two-stage detectors: shared by every edition.

An edition says where its data and checkpoints are (`DetectionTask`'s abstract members); annotations, calibration,
evaluation and score are here, so that the embedded edition exercises the code that reads COCO.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
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
from vitptq.tasks.decoding import ImageSource
from vitptq.tasks.detection import evidence, ground_truth, inference, resampling
from vitptq.tasks.detection.evidence import Detections
from vitptq.tasks.detection.ground_truth import Annotations
from vitptq.tasks.file_task import plain
from vitptq.tasks.openmmlab import batches, images, libraries, models
from vitptq.tasks.openmmlab.libraries import Scope
from vitptq.tasks.openmmlab.operators import ensure_ops
from vitptq.tasks.openmmlab.task import OpenMMLabTask

META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")


class DetectionTask(OpenMMLabTask):
    """Box and mask AP on `val2017/`, calibration on listed images of `train2017/`."""

    scope: ClassVar[Scope] = "mmdet"
    metrics: ClassVar[tuple[Metric, ...]] = evidence.METRICS

    def __init__(self, *, scale: tuple[int, int], size: tuple[int, int], **reading: Any) -> None:
        """Resize images to fit into `scale` (long side, short side).

        `size` is the usual (height, width) of what the model then reads. See FileTask for the rest.
        """
        super().__init__(**reading)
        self.scale = scale
        self.size = size

    @property
    def needed(self) -> Sequence[Path]:
        """Return the two splits and the annotations."""
        return self.train, self.val, self.annotation_file

    def evaluation_data(self) -> Sequence[Path]:
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
            "data": {
                "version": self.data_version,
                "images": self.images,
                "classes": len(self.classes),
                **self.pixels_hash(model),
            },
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
        every = self.calibration_files(self.calibration_list(seed))
        source = self._source(f"calibration-{seed}", every, partial(images.ImageList, every, self.pipeline, "mmdet"))
        prepare = models.preprocessor(config, "mmdet", torch.device("cpu"))
        found = batches.calibration_batches(
            (images.as_item(image, "mmdet") for image in self.calibration_images(source, size)),
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

    def evaluation_source(self, model: str) -> ImageSource:
        """Return the evaluation images, those of equal size together."""
        libraries.require("mmdet")
        self.card(model)
        return self._evaluation_source(self.annotations())

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
        decoded = self.waiting(self.evaluation_images(name, self._evaluation_source(truth)))
        items = (images.as_item(image, "mmdet") for image in decoded)
        for batch in batches.equal_batches(items, size=self.batch_size, divisor=prepare.pad_size_divisor):
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

    def planned_source(self, model: str, use: str) -> ImageSource:
        """Return the images of a use without their files."""
        return self._source(use, (), self._dataset)

    def _evaluation_source(self, truth: Annotations) -> ImageSource:
        sizes = truth.sizes.tolist()
        order = sorted(range(len(sizes)), key=lambda position: (sizes[position], position))
        files = [self.val / truth.names[position] for position in order]
        source = self._source("evaluation", files, self._dataset, order)
        return replace(source, shared=(self.annotation_file,))  # which says what an image's id is

    def _source(
        self, use: str, files: Sequence[Path], data: Callable[[], Any], order: Sequence[int] | None = None
    ) -> ImageSource:
        """Return files as the pipeline of the data set that `data` makes reads them, in the order of its positions."""
        return ImageSource(
            name=f"{self.name}-{self.edition}-{use}", root=self.folder, files=[(file,) for file in files],
            reading=plain(self.pipeline), bytes_each=3 * self.scale[0] * self.scale[1], decoders=self.workers,
            reader=lambda: images.reader(data(), order),
        )  # fmt: skip

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
