"""ADE20K semantic segmentation: the scene parsing challenge's images, checkpoints of OpenMMLab by hash.

`VITPTQ_DATA/ADEChallengeData2016/` holds `images/training|validation/*.jpg` and `annotations/validation/*.png` as the
challenge published them; `VITPTQ_CHECKPOINTS` holds OpenMMLab's checkpoints under their own names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from vitptq.bench.contracts.task import ModelCard, Progress
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks import checkpoint_root, data_root
from vitptq.tasks.openmmlab import runtime as openmmlab
from vitptq.tasks.segmentation import ade20k_lists, label_maps
from vitptq.tasks.segmentation.task import Ade20kTask, Config

CLASSES = 150
IMAGES = 2_000
TOLERANCE = 0.2
SOURCE = "https://github.com/open-mmlab/mmsegmentation/tree/main/configs/"
DOWNLOAD = "https://mmassets.onedl.ai/mmsegmentation/v0.5"


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint of OpenMMLab: its configuration, its address, and the float score its authors report."""

    family: str
    config: str
    weights: str
    """Address below `DOWNLOAD`; the name ends with the first 8 digits of the file's sha256."""
    miou: float

    @property
    def file(self) -> str:
        """Return the name of the checkpoint file."""
        return self.weights.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """Return the digits of the file's sha256 that its name ends with."""
        return self.file.removesuffix(".pth").rpartition("-")[2]


def _swin(size: str, stamp: str, miou: float) -> Published:
    folder = f"upernet_swin_{size}_patch4_window7_512x512_160k_ade20k_pretrain_224x224_1K"
    config = f"swin/swin-{size}-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"
    return Published("swin", config, f"swin/{folder}/{folder}_{stamp}.pth", miou)


MODELS: Mapping[str, Published] = {
    "upernet_swin_tiny": _swin("tiny", "20210531_112542-e380ad3e", 44.41),
    "upernet_swin_small": _swin("small", "20210526_192015-ee2fff1c", 47.72),
    "upernet_deit_small": Published(
        "vit",
        "vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512",
        "vit/upernet_deit-s16_512x512_160k_ade20k/upernet_deit-s16_512x512_160k_ade20k_20210621_160903-5110d916.pth",
        42.87,
    ),
}


class Ade20k(Ade20kTask):
    """The 2,000 validation images of the scene parsing challenge, 150 classes."""

    name: ClassVar[str] = "ade20k"
    edition: ClassVar[str] = "full"
    title: ClassVar[str] = "ADE20K semantic segmentation"

    def __init__(
        self,
        *,
        root: Path | None = None,
        checkpoints: Path | None = None,
        models: Mapping[str, Published] = MODELS,
        classes: int = CLASSES,
        images: int | None = IMAGES,
        training_images: int = ade20k_lists.TRAINING_IMAGES,
        lists: Callable[[int], Sequence[int]] = ade20k_lists.read,
        configs: Callable[[str], Config] | None = None,
        **reading: Any,
    ) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; the rest serves tests."""
        super().__init__(classes=classes, images=images, **reading)
        self._root = root
        self._checkpoints = checkpoints
        self._models = models
        self._training_images = training_images
        self._lists = lists
        self._configs = configs or packaged_config

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by name: the challenge's validation images have not changed."""
        return f"ade20k-challenge2016-val-{IMAGES}"

    @property
    def folder(self) -> Path:
        """Return the folder that holds `images/` and `annotations/`."""
        return (self._root or data_root()) / "ADEChallengeData2016"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of local checkpoints."""
        return checkpoint_root(self._checkpoints, self._root)

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
        return "tasks/ade20k_lists/calibration_seed<seed>.csv (position in the sorted file names of images/training)"

    def models(self) -> Mapping[str, ModelCard]:
        """Return the models by name."""
        return {name: _card(name, entry) for name, entry in self._models.items()}

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: a person downloads ADE20K and the checkpoints (`problems` says how)."""

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the positions of one seed."""
        return [str(position) for position in self._lists(seed)]

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the file at each listed position of the sorted training images."""
        files = label_maps.image_files(self.folder / "images" / "training", self.missing_data)
        if len(files) != self._training_images:
            raise BadInput(
                f"{self.folder / 'images' / 'training'} has {len(files)} images, the calibration lists count in "
                f"{self._training_images}: unpack the training split again"
            )
        return [files[int(name)] for name in names]

    def model_config(self, model: str) -> Config:
        """Return the model of OpenMMLab's configuration, its normalisation layers in their form for one device."""
        self.card(model)
        config: Config = _for_one_device(self._configs(self._models[model].config)["model"])
        return config

    def dataset_config(self, model: str) -> Config:
        """Return the test data set of OpenMMLab's configuration."""
        self.card(model)
        config = self._configs(self._models[model].config)["test_dataloader"]["dataset"]
        return {key: value for key, value in config.items() if key not in ("data_root", "data_prefix")}

    def input_size(self, model: str) -> tuple[int, int]:
        """Return the size of the training crops; the images that are evaluated have it as their shorter side."""
        height, width = self.model_config(model)["data_preprocessor"]["size"]
        return height, width

    def checkpoint_file(self, model: str) -> Path:
        """Return where the model's checkpoint belongs."""
        self.card(model)
        return self.checkpoints / self._models[model].file

    def float_model(self, model: str) -> nn.Module:
        """Build the configured model and load its checkpoint strictly."""
        file = self.checkpoint_file(model)
        if not file.is_file():
            raise Missing(self.missing_checkpoint(model))
        network = openmmlab.build(self.model_config(model), "mmseg")
        openmmlab.load_checkpoint(network, file, self._models[model].digest)
        return network

    def missing_checkpoint(self, model: str) -> str:
        """Say where the checkpoint is published."""
        return (
            f"the checkpoint of {model} is not here: download {DOWNLOAD}/{self._models[model].weights} "
            f"to {self.checkpoint_file(model)}"
        )


def _card(name: str, entry: Published) -> ModelCard:
    return ModelCard(
        name=name,
        family=entry.family,
        checkpoint=entry.file,
        reference={"miou": entry.miou},
        tolerance=TOLERANCE,
        source=f"{SOURCE}{entry.config.partition('/')[0]}/metafile.yaml",
        note="single scale, 512 pixels on the shorter side",
    )


@cache
def packaged_config(name: str) -> Config:
    """Return a configuration that mmseg's package brings along, by its path without the ending."""
    openmmlab.require("mmseg")
    from mmengine.config import Config as MmengineConfig

    spec = find_spec("mmseg")
    assert spec is not None and spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], ".mim", "configs", f"{name}.py")
    if not path.is_file():
        raise Missing(f"this mmseg brings no configuration {name} ({path} is not there): install the pinned version")
    config: Config = MmengineConfig.fromfile(path).to_dict()
    return config


def _for_one_device(value: Any) -> Any:
    """Return a config with BN for SyncBN: the same parameters and, in evaluation, the same function without a group."""
    if isinstance(value, Mapping):
        return {
            key: "BN" if (key, entry) == ("type", "SyncBN") else _for_one_device(entry) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_for_one_device(entry) for entry in value)
    return value
