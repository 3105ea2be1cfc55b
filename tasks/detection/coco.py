"""COCO detection and instance segmentation with mmdet's two-stage detectors.

`CocoTask` holds what both editions share: annotations, calibration, evaluation and score, so that the embedded edition
exercises the code that reads COCO. An edition says where its data and checkpoints are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.contracts.task import Evidence, Metric, ModelCard, Progress
from vitptq.bench.errors import BadInput, Missing, VitptqError
from vitptq.tasks import checkpoint_root, data_root
from vitptq.tasks.checkpoints import sha256_of
from vitptq.tasks.detection import coco_lists, evidence, ground_truth, inference, published
from vitptq.tasks.detection.evidence import Detections
from vitptq.tasks.detection.ground_truth import Annotations
from vitptq.tasks.files import FileTask, TensorCalibration, files_digest, plain, refuse_leak, state_of
from vitptq.tasks.openmmlab import runtime as openmmlab
from vitptq.tasks.openmmlab.operators import ensure_ops
from vitptq.tasks.openmmlab.runtime import Item

IMAGES = 5000
LITTLE_BYTES = 77e6  # starting processes takes longer than decoding this much
META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")


class CocoTask(FileTask):
    """Box and mask AP on `val2017/`, calibration on listed images of `train2017/`."""

    metrics: ClassVar[tuple[Metric, ...]] = evidence.METRICS

    def __init__(
        self, *, images: int | None, scale: tuple[int, int], size: tuple[int, int], batch_size: int, **reading: Any
    ) -> None:
        """Expect `images` evaluation images (None: any number), resized to fit into `scale` (long side, short side).

        `size` is the usual (height, width) of what the model then reads. See FileTask for the rest; an evaluation set
        that does not fit into `cache_bytes` is not kept at all.
        """
        super().__init__(images=images, batch_size=batch_size, **reading)
        self.scale = scale
        self.size = size

    @property
    def needed(self) -> Sequence[Path]:
        """Return the two splits and the annotations."""
        return self.train, self.val, self.annotation_file

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Return the checkpoints' classes, in the order of their outputs."""

    @abstractmethod
    def config(self, model: str) -> Mapping[str, Any]:
        """Return the model's OpenMMLab config."""

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

    def problems(self, model: str) -> list[str]:
        """Say what is missing on this machine to run `model`: one sentence each, with the next step."""
        return openmmlab.problems() + super().problems(model)

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
        listed = openmmlab.ImageList(files, self.pipeline, "mmdet")
        prepare = openmmlab.preprocessor(config, "mmdet", torch.device("cpu"))
        batches = openmmlab.calibration_batches(
            openmmlab.items(listed, range(len(files)), workers=self._workers_for(len(files))),
            prepare,
            batch_size=self.batch_size,
            divisor=prepare.pad_size_divisor,
        )
        return TensorCalibration(batches, self.input(model), device, files_digest(files), inference.outputs)

    def input(self, model: str) -> InputSpec:
        """Return shape and normalisation of the model's input."""
        return openmmlab.input_spec(self.config(self.card(model).name), self.size)

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
        ground_truth.compare_with_folder(found, self.val)
        return found

    def preload(self, model: str) -> None:
        """Read the annotations, and decode the evaluation images where they fit into memory."""
        openmmlab.require("mmdet")
        self.card(model)
        truth = self.annotations()
        if self._bytes(len(truth.names)) <= self.cache_bytes:
            self._evaluation_items(truth)

    def drop_images(self) -> None:
        """Drop the decoded evaluation images."""
        _DECODED.clear()

    def evaluate(
        self, model: nn.Module, name: str, device: torch.device, progress: Progress
    ) -> dict[str, NDArray[Any]]:
        """Return detections and ground truth of every evaluation image, in the order of the annotation file."""
        truth = self.annotations()
        prepare = openmmlab.preprocessor(self.config(self.card(name).name), "mmdet", device)
        found: dict[int, Detections] = {}
        broken = done = 0
        model.eval()
        positions = {image: position for position, image in enumerate(truth.image_ids.tolist())}
        for batch in openmmlab.equal_batches(
            self._evaluation_items(truth), size=self.batch_size, divisor=prepare.pad_size_divisor
        ):
            detections, bad = inference.detect(model, *openmmlab.prepared(prepare, batch))
            broken += bad
            done += len(batch)
            images = (item["data_samples"].img_id for item in batch)
            found.update({positions[image]: one for image, one in zip(images, detections, strict=False)})
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

    def _bytes(self, images: int) -> int:
        return images * 3 * self.scale[0] * self.scale[1]

    def _workers_for(self, images: int) -> int:
        return 0 if self._bytes(images) < LITTLE_BYTES else self.workers

    def _evaluation_items(self, truth: Annotations) -> Iterable[Item]:
        """Return what the pipeline makes of the images, those of equal size together."""
        sizes = truth.sizes.tolist()
        order = sorted(range(len(sizes)), key=lambda position: (sizes[position], position))
        workers = self._workers_for(len(order))
        if self._bytes(len(order)) > self.cache_bytes:
            return openmmlab.items(self._dataset(), order, workers=workers)
        key = state_of([self.annotation_file, *(self.val / name for name in truth.names)], self.pipeline)
        if key not in _DECODED:
            _DECODED.clear()
            _DECODED[key] = list(openmmlab.items(self._dataset(), order, workers=workers))
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
        return openmmlab.dataset(config, "mmdet")


_DECODED: dict[str, list[Item]] = {}
"""The decoded evaluation images of one task: the cells of a task come one after the other."""


class Coco(CocoTask):
    """The 5,000 images of val2017."""

    name: ClassVar[str] = "coco"
    edition: ClassVar[str] = "full"
    title: ClassVar[str] = "COCO detection and instance segmentation"

    def __init__(
        self,
        *,
        root: Path | None = None,
        checkpoints: Path | None = None,
        images: int | None = IMAGES,
        training_images: int = coco_lists.IMAGES,
        lists: Callable[[int], Sequence[int]] = coco_lists.read,
        batch_size: int = 4,
        **reading: Any,
    ) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; the rest serves tests."""
        # 640 x 480 is COCO's most frequent size: scaled to 1067 x 800, padded to multiples of 32
        super().__init__(images=images, scale=(1333, 800), size=(800, 1088), batch_size=batch_size, **reading)
        self._root = root
        self._checkpoints = checkpoints
        self._training_images = training_images
        self._lists = lists

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by name: val2017 and its annotations have not changed."""
        return f"coco-val2017-{IMAGES}"

    @property
    def folder(self) -> Path:
        """Return the folder that holds `train2017/`, `val2017/` and `annotations/`."""
        return (self._root or data_root()) / "coco"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of local checkpoints."""
        return checkpoint_root(self._checkpoints, self._root)

    @property
    def missing_data(self) -> str:
        """Say how to get COCO and where it goes."""
        return (
            "COCO 2017 is needed: unpack train2017.zip, val2017.zip and annotations_trainval2017.zip from "
            f"https://cocodataset.org/#download to {self.folder}/train2017, {self.folder}/val2017 and "
            f"{self.folder}/annotations, or set VITPTQ_DATA to the folder that has coco/"
        )

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return "tasks/coco_lists/calibration_seed<seed>.csv (positions among the training images sorted by id)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Return COCO's 80 classes, as mmdet lists them."""
        return published.CLASSES

    def models(self) -> Mapping[str, ModelCard]:
        """Return the models."""
        return {name: model.card for name, model in published.PUBLISHED.items()}

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: a person downloads COCO and the checkpoints (`problems` says how)."""

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the positions of one seed."""
        return [str(position) for position in self._lists(seed)]

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the training image at each position of the sorted ids, which are the file names."""
        if not self.train.is_dir():
            raise Missing(f"{self.train} is not there. {self.missing_data}")
        present = ground_truth.image_names(self.train)
        if len(present) != self._training_images:
            raise Missing(
                f"{self.train} has {len(present)} images, the calibration lists count in {self._training_images}: "
                "the training split is incomplete or another one, unpack it again"
            )
        return [self.train / present[int(name)] for name in names]

    def config(self, model: str) -> Mapping[str, Any]:
        """Return mmdet's config."""
        self.card(model)
        config: Mapping[str, Any] = published.config(model)
        return config

    def checkpoint_file(self, model: str) -> Path:
        """Return where the checkpoint belongs, under its published name."""
        self.card(model)
        return self.checkpoints / published.PUBLISHED[model].file

    def missing_checkpoint(self, model: str) -> str:
        """Say where the checkpoint is published."""
        url, file = published.PUBLISHED[model].url, self.checkpoint_file(model)
        return f"the checkpoint of {model} is not here: download {url} to {file}"

    def float_model(self, model: str) -> nn.Module:
        """Build the model and load its checkpoint strictly."""
        entry, file = published.PUBLISHED[model], self.checkpoint_file(model)
        if not file.is_file():
            raise Missing(self.missing_checkpoint(model))
        network = openmmlab.build(self.config(model), "mmdet")
        openmmlab.load_checkpoint(network, file, entry.digest, published.convert if entry.cascade else None)
        return network
