"""ADE20K semantic segmentation: the scene parsing challenge's images, checkpoints of OpenMMLab by hash.

`VITPTQ_DATA/ADEChallengeData2016/` holds `images/training|validation/*.jpg` and `annotations/validation/*.png` as the
challenge published them; `VITPTQ_CHECKPOINTS` holds OpenMMLab's checkpoints under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.checkpoints import load_checkpoint
from vitptq.tasks.full_edition import FullTask, Lists
from vitptq.tasks.openmmlab import models
from vitptq.tasks.openmmlab.configs import Config, for_one_device, named_config, packaged_config, part_of
from vitptq.tasks.own_checkpoints import OwnCheckpoint
from vitptq.tasks.segmentation import ade20k_models, label_maps
from vitptq.tasks.segmentation.ade20k_lists import LISTS, TRAINING_IMAGES
from vitptq.tasks.segmentation.ade20k_models import MODELS, Published
from vitptq.tasks.segmentation.task import SegmentationTask

CLASSES = 150
PACKAGED = partial(packaged_config, scope="mmseg")
IMAGES = 2_000


class Ade20k(FullTask, SegmentationTask):
    """The 2,000 validation images of the scene parsing challenge, 150 classes."""

    name: ClassVar[str] = "ade20k"
    title: ClassVar[str] = "ADE20K semantic segmentation"
    data_folder: ClassVar[str] = "ADEChallengeData2016"
    data_bytes: ClassVar[int] = 970_000_000  # about: the archive

    def __init__(
        self,
        *,
        root: Path | None = None,
        checkpoints: Path | None = None,
        models: Mapping[str, Published] = MODELS,
        classes: int = CLASSES,
        images: int | None = IMAGES,
        training_images: int = TRAINING_IMAGES,
        lists: Lists = LISTS.names,
        configs: Callable[[str], Config] = PACKAGED,
        **reading: Any,
    ) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; the rest serves tests."""
        super().__init__(root=root, checkpoints=checkpoints, lists=lists, classes=classes, images=images, **reading)
        self._models = models
        self._training_images = training_images
        self._configs = configs

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by name: the challenge's validation images have not changed."""
        return f"ade20k-challenge2016-val-{IMAGES}"

    @property
    def missing_data(self) -> str:
        """Say how to get ADE20K and where it goes."""
        return (
            "ADE20K is needed: download ADEChallengeData2016.zip from "
            "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip, unpack it to "
            f"{self.folder}/images and {self.folder}/annotations, each with training/ and validation/, "
            "or set VITPTQ_DATA to the folder that has ADEChallengeData2016/"
        )

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return "tasks/segmentation/ade20k_lists/calibration_seed<seed>.csv (position in the sorted images/training)"

    def published_models(self) -> Mapping[str, ModelCard]:
        """Return the models by name."""
        return {name: ade20k_models.card(name, entry) for name, entry in self._models.items()}

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the file at each listed position of the sorted training images."""
        files = label_maps.image_files(self.folder / "images" / "training", self.missing_data)
        if len(files) != self._training_images:
            raise BadInput(
                f"{self.folder / 'images' / 'training'} has {len(files)} images, the calibration lists count in "
                f"{self._training_images}: unpack the training split again"
            )
        _refuse_other_names(files, "ADE_train")
        return [files[int(name)] for name in names]

    def evaluation_pairs(self) -> list[label_maps.Pair]:
        """Return the evaluation images with their label maps, named as the challenge named them."""
        found = super().evaluation_pairs()
        _refuse_other_names([pair.image for pair in found], "ADE_val")
        return found

    def config(self, model: str) -> Config:
        """Return the model of OpenMMLab's configuration, its normalisation layers in their form for one device."""
        config: Config = for_one_device(part_of(self._whole_config(model), "model"))
        return config

    def dataset_config(self, model: str) -> Config:
        """Return the test data set of OpenMMLab's configuration."""
        config = part_of(self._whole_config(model), "test_dataloader", "dataset")
        return {key: value for key, value in config.items() if key not in ("data_root", "data_prefix")}

    def input_size(self, model: str) -> tuple[int, int]:
        """Return the size of the training crops; the images that are evaluated have it as their shorter side."""
        height, width = self.config(model)["data_preprocessor"]["size"]
        return height, width

    def published_file(self, model: str) -> Path:
        """Return where the model's checkpoint belongs."""
        return self.checkpoints / self._models[model].file

    def published_model(self, model: str) -> nn.Module:
        """Build the configured model and load its checkpoint strictly."""
        file = self.published_file(model)
        if not file.is_file():
            raise Missing(self.published_source(model))
        network = models.build(self.config(model), "mmseg")
        load_checkpoint(network, file, self._models[model].digest)
        return network

    def published_digest(self, model: str) -> str | None:
        """Return the digits of the file's sha256 that its name ends with."""
        return self._models[model].digest

    def published_source(self, model: str) -> str:
        """Say where the checkpoint is published."""
        return (
            f"the checkpoint of {model} is not here: download {self._models[model].url} to {self.published_file(model)}"
        )

    def own_model(self, own: OwnCheckpoint) -> nn.Module:
        """Build the segmenter of the entry's configuration."""
        return models.build(self.config(own.name), "mmseg")

    def _whole_config(self, model: str) -> Config:
        self.card(model)
        own = self.own_checkpoints.get(model)
        if own is not None:
            return named_config(own.config, self.checkpoints, "mmseg")
        return self._configs(self._models[model].config)


def _refuse_other_names(files: Sequence[Path], prefix: str) -> None:
    for position, file in enumerate(files, start=1):
        if file.name != (expected := f"{prefix}_{position:08d}.jpg"):
            raise BadInput(
                f"{file} stands where {expected} should: images would shift against the published lists and scores, "
                "unpack the split again"
            )
