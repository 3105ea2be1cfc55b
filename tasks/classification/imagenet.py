"""ImageNet classification: ILSVRC 2012 in folders, checkpoints by exact timm tag.

`VITPTQ_DATA/imagenet/` holds `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`; `VITPTQ_CHECKPOINTS` holds
`<tag>.safetensors` or `<tag>.pth`, and what it lacks comes from the model hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import timm
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.checkpoints import first_line, first_problem
from vitptq.tasks.classification.imagenet_lists import LISTS
from vitptq.tasks.classification.imagenet_models import MODELS
from vitptq.tasks.classification.images import class_folders, image_files
from vitptq.tasks.classification.task import ClassificationTask
from vitptq.tasks.full_edition import FullTask, Lists

CLASSES = 1000
IMAGES = 50_000
HUB_FILE = "model.safetensors"


def hub_download(tag: str) -> Path:
    """Download the checkpoint into the hub's cache and return the file."""
    return Path(hf_hub_download(f"timm/{tag}", HUB_FILE))


class ImageNet(FullTask, ClassificationTask):
    """The 50,000 validation images of ILSVRC 2012."""

    name: ClassVar[str] = "imagenet"
    title: ClassVar[str] = "ImageNet-1k classification"
    data_folder: ClassVar[str] = "imagenet"

    def __init__(
        self,
        *,
        root: Path | None = None,
        checkpoints: Path | None = None,
        models: Mapping[str, ModelCard] = MODELS,
        classes: int = CLASSES,
        images: int | None = IMAGES,
        lists: Lists = LISTS.names,
        download: Callable[[str], Path] = hub_download,
        **reading: Any,
    ) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; the rest serves tests."""
        super().__init__(root=root, checkpoints=checkpoints, lists=lists, classes=classes, images=images, **reading)
        self._models = models
        self._download = download

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by name: ILSVRC 2012's validation images have not changed."""
        return f"ilsvrc2012-val-{IMAGES}"

    @property
    def missing_data(self) -> str:
        """Say how to get ImageNet and where it goes."""
        return (
            "ImageNet is needed: download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from "
            "https://image-net.org/download (free registration), unpack them to "
            f"{self.folder}/train/<wnid>/*.JPEG and {self.folder}/val/<wnid>/*.JPEG, "
            "or set VITPTQ_DATA to the folder that has imagenet/"
        )

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return "tasks/classification/imagenet_lists/calibration_seed<seed>.csv (class, position in its sorted files)"

    def models(self) -> Mapping[str, ModelCard]:
        """Return the models by exact timm tag."""
        return self._models

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the file at each listed position of the training split; only the listed classes are read."""
        train = self.folder / "train"
        folders = class_folders(train, self.missing_data, self.classes)
        rows = [(int(label), int(position)) for label, _, position in (name.partition("/") for name in names)]
        listed = {label: image_files(folders[label]) for label in {label for label, _ in rows}}
        absent = [(label, position) for label, position in rows if position >= len(listed[label])]
        if absent:
            label, position = absent[0]
            raise Missing(
                f"{folders[label]} has {len(listed[label])} images, the calibration list wants number {position}, "
                f"counted from 0 ({len(absent)} of {len(rows)} listed calibration images are missing): "
                "the training split is incomplete, unpack it again"
            )
        return [listed[label][position] for label, position in rows]

    def data_config(self, model: str) -> dict[str, Any]:
        """Return the data config that timm ships for the tag."""
        return _timm_config(self.card(model).checkpoint)

    def checkpoint_file(self, model: str) -> Path:
        """Return the local checkpoint, else the hub's, downloaded where it is not in the hub's cache."""
        tag = self.card(model).checkpoint
        here = self._local(tag) or _cached(tag)
        if here is not None:
            return here
        try:
            return self._download(tag)
        except (OSError, HfHubHTTPError, ValueError) as error:  # no network, no such file, offline mode
            raise Missing(f"{self.missing_checkpoint(model)}; the download failed: {first_line(error)}") from error

    def checkpoint_problems(self, model: str) -> list[str]:
        """Say where the checkpoint comes from while it is neither in the folder nor in the hub's cache."""
        tag = self.card(model).checkpoint
        if self._local(tag) or _cached(tag):
            return []
        return [f"{self.missing_checkpoint(model)}; with a network the first run fetches it"]

    def float_model(self, model: str) -> nn.Module:
        """Build the tagged model and load its checkpoint strictly."""
        tag = self.card(model).checkpoint
        file = self.checkpoint_file(model)
        # timm reads a local file as it reads the hub's, old key names included. `custom_load` is for the original .npz
        # files; a classifier of another size is an error here, not something to drop.
        overlay = {"file": str(file), "custom_load": False, "num_classes": self.classes}
        try:
            network: nn.Module = timm.create_model(
                tag, pretrained=True, num_classes=self.classes, pretrained_cfg_overlay=overlay
            )
        except Exception as error:  # any format's reader, and each model's own converter of keys
            raise BadInput(f"{file} is not the checkpoint of {tag}: {first_problem(error)}") from error
        return network

    def _local(self, tag: str) -> Path | None:
        candidates = (self.checkpoints / f"{tag}{suffix}" for suffix in (".safetensors", ".pth"))
        return next((file for file in candidates if file.is_file()), None)

    def missing_checkpoint(self, model: str) -> str:
        """Say where the checkpoint is published."""
        tag = self.card(model).checkpoint
        return (
            f"the checkpoint of {tag} is not here: download {HUB_FILE} from https://huggingface.co/timm/{tag} "
            f"to {self.checkpoints / f'{tag}.safetensors'}"
        )


def _cached(tag: str) -> Path | None:
    found = try_to_load_from_cache(f"timm/{tag}", HUB_FILE)
    return Path(found) if isinstance(found, str) else None


@cache
def _timm_config(tag: str) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(tag, allow_unregistered=False)
    if config is None:
        raise BadInput(f'this timm ({timm.__version__}) knows no checkpoint "{tag}"; install the pinned version')
    entries: dict[str, Any] = config.to_dict()
    return entries
