"""COCO detection and instance segmentation: val2017, checkpoints of OpenMMLab and of Swin's authors.

`VITPTQ_DATA/coco/` holds `train2017/`, `val2017/` and `annotations/` as they are published; `VITPTQ_CHECKPOINTS` holds
the checkpoints under their own names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.checkpoints import load_checkpoint
from vitptq.tasks.detection import coco_models
from vitptq.tasks.detection.coco_lists import LISTS, TRAINING_IMAGES
from vitptq.tasks.detection.ground_truth import Annotations
from vitptq.tasks.detection.task import DetectionTask
from vitptq.tasks.full_edition import FullTask, Lists
from vitptq.tasks.image_files import image_names
from vitptq.tasks.openmmlab import models
from vitptq.tasks.openmmlab.configs import Config, for_one_device, named_config, part_of
from vitptq.tasks.own_checkpoints import OwnCheckpoint

IMAGES = 5000
OBJECTS = 36_781
_NAME = re.compile(r"\d{12}\.jpg")


class Coco(FullTask, DetectionTask):
    """The 5,000 images of val2017."""

    name: ClassVar[str] = "coco"
    title: ClassVar[str] = "COCO detection and instance segmentation"
    data_folder: ClassVar[str] = "coco"
    data_bytes: ClassVar[int] = 20_400_000_000  # about: the three archives

    def __init__(
        self,
        *,
        root: Path | None = None,
        checkpoints: Path | None = None,
        images: int | None = IMAGES,
        objects: int | None = OBJECTS,
        training_images: int = TRAINING_IMAGES,
        lists: Lists = LISTS.names,
        batch_size: int = 4,
        **reading: Any,
    ) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; the rest serves tests."""
        # 640 x 480 is COCO's most frequent size: scaled to 1067 x 800, padded to multiples of 32
        layout = {"images": images, "scale": (1333, 800), "size": (800, 1088), "batch_size": batch_size}
        super().__init__(root=root, checkpoints=checkpoints, lists=lists, **layout, **reading)
        self._objects = objects
        self._training_images = training_images

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by name: val2017 and its annotations have not changed."""
        return f"coco-val2017-{IMAGES}"

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
        return "tasks/detection/coco_lists/calibration_seed<seed>.csv (position in the training images sorted by id)"

    @property
    def classes(self) -> tuple[str, ...]:
        """Return COCO's 80 classes, as mmdet lists them."""
        return coco_models.CLASSES

    def published_models(self) -> Mapping[str, ModelCard]:
        """Return the models."""
        return {name: model.card for name, model in coco_models.PUBLISHED.items()}

    def annotations(self) -> Annotations:
        """Return the evaluation split's annotations; another number of objects than val2017's is refused."""
        found = super().annotations()
        objects = len(found.truth["truth_labels"])
        if self._objects is not None and objects != self._objects:
            raise BadInput(
                f"{self.annotation_file} lists {objects} objects, expected {self._objects}: it is not val2017's as "
                "published, download it again"
            )
        return found

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the training image at each position of the sorted ids, which are the file names."""
        if not self.train.is_dir():
            raise Missing(f"{self.train} is not there. {self.missing_data}")
        present = image_names(self.train)
        if len(present) != self._training_images:
            raise Missing(
                f"{self.train} has {len(present)} images, the calibration lists count in {self._training_images}: "
                "the training split is incomplete or another one, unpack it again"
            )
        strange = next((name for name in present if not _NAME.fullmatch(name)), None)
        if strange is not None:
            raise BadInput(
                f"{self.train / strange} is not named as COCO's images are, by its id of 12 digits: positions of the "
                "calibration lists would shift, remove it or unpack the split again"
            )
        return [self.train / present[int(name)] for name in names]

    def config(self, model: str) -> Config:
        """Return mmdet's config."""
        self.card(model)
        own = self.own_checkpoints.get(model)
        config: Config = coco_models.config(model) if own is None else self._own_config(own)
        return config

    def published_file(self, model: str) -> Path:
        """Return where the checkpoint belongs, under its published name."""
        return self.checkpoints / coco_models.PUBLISHED[model].file

    def published_digest(self, model: str) -> str | None:
        """Return the published digits of the file's sha256, if there are any."""
        return coco_models.PUBLISHED[model].digest

    def published_source(self, model: str) -> str:
        """Say where the checkpoint is published."""
        url, file = coco_models.PUBLISHED[model].url, self.published_file(model)
        return f"the checkpoint of {model} is not here: download {url} to {file}"

    def published_model(self, model: str) -> nn.Module:
        """Build the model and load its checkpoint strictly."""
        entry, file = coco_models.PUBLISHED[model], self.published_file(model)
        if not file.is_file():
            raise Missing(self.published_source(model))
        network = models.build(self.config(model), "mmdet")
        load_checkpoint(network, file, entry.digest, coco_models.convert if entry.cascade else None)
        return network

    def own_model(self, own: OwnCheckpoint) -> nn.Module:
        """Build the detector of the entry's configuration."""
        return models.build(self._own_config(own), "mmdet")

    def _own_config(self, own: OwnCheckpoint) -> Config:
        whole = named_config(own.config, self.checkpoints, "mmdet")
        config: Config = for_one_device(part_of(whole, "model"))
        return config
