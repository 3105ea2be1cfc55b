"""ImageNet classification: ILSVRC 2012 in folders, checkpoints by exact timm tag.

`VITPTQ_DATA/imagenet/` holds `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`; `VITPTQ_CHECKPOINTS` holds
`<tag>.safetensors` or `<tag>.pth`, and what it lacks comes from the model hub.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import timm
import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from numpy.typing import NDArray
from timm.data.imagenet_info import ImageNetInfo
from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.calibration import VALIDATION_PREFIX
from vitptq.tasks.checkpoints import first_line, first_problem
from vitptq.tasks.classification import evidence
from vitptq.tasks.classification.imagenet_lists import LISTS
from vitptq.tasks.classification.imagenet_models import MODELS
from vitptq.tasks.classification.images import class_folders
from vitptq.tasks.classification.task import ClassificationTask
from vitptq.tasks.foreign_files import refuse_disguised
from vitptq.tasks.full_edition import FullTask, Lists
from vitptq.tasks.image_files import image_names
from vitptq.tasks.own_checkpoints import OwnCheckpoint

CLASSES = 1000
IMAGES = 50_000
TRAINING_IMAGES = 1_281_167
HUB_FILE = "model.safetensors"


def hub_download(tag: str) -> Path:
    """Download the checkpoint into the hub's cache and return the file."""
    return Path(hf_hub_download(f"timm/{tag}", HUB_FILE))


class ImageNet(FullTask, ClassificationTask):
    """The 50,000 validation images of ILSVRC 2012."""

    name: ClassVar[str] = "imagenet"
    title: ClassVar[str] = "ImageNet-1k classification"
    data_folder: ClassVar[str] = "imagenet"
    data_bytes: ClassVar[int] = 154_600_000_000  # about: the challenge's two archives

    def __init__(
        self,
        *,
        root: Path | None = None,
        checkpoints: Path | None = None,
        models: Mapping[str, ModelCard] = MODELS,
        classes: int = CLASSES,
        images: int | None = IMAGES,
        training_images: int = TRAINING_IMAGES,
        class_names: Sequence[str] | None = None,
        lists: Lists = LISTS.names,
        download: Callable[[str], Path] = hub_download,
        **reading: Any,
    ) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; the rest serves tests."""
        super().__init__(root=root, checkpoints=checkpoints, lists=lists, classes=classes, images=images, **reading)
        self._training_images = training_images
        self._class_names = class_names
        self._models = models
        self._download = download

    def own_truth(self) -> str:
        """Return the hash of the labels: as many images of each class, in the order of the classes."""
        if (self.classes, self.images) != (CLASSES, IMAGES):
            return ""
        return evidence.labels_hash(np.repeat(np.arange(CLASSES, dtype=np.int16), IMAGES // CLASSES))

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

    def published_models(self) -> Mapping[str, ModelCard]:
        """Return the models by exact timm tag."""
        return self._models

    @property
    def class_names(self) -> Sequence[str]:
        """Return the 1,000 WordNet ids of the challenge, in the order of the models' outputs."""
        if self._class_names is None:
            return wordnet_ids() if self.classes == CLASSES else ()
        return self._class_names

    def evaluation_files(self) -> tuple[list[Path], NDArray[np.int16]]:
        """Return the evaluation images and their labels; every class has as many, and none is there twice."""
        files, labels = super().evaluation_files()
        counts = np.bincount(labels, minlength=self.classes)
        if (uneven := np.flatnonzero(counts != counts.max())).size:
            folders = class_folders(self.folder / "val", self.missing_data, self.classes, self.class_names)
            raise BadInput(
                f"{folders[uneven[0]]} has {counts[uneven[0]]} images where others have {counts.max()}: every class "
                "has equally many, unpack the split again"
            )
        seen: dict[str, Path] = {}
        for file in (file for file in files if file.name.startswith(VALIDATION_PREFIX)):
            if (first := seen.setdefault(file.stem, file)) is not file:
                raise BadInput(f"{file} is in the split twice, also as {first}: remove the one in the wrong place")
        return files, labels

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the file at each listed position of the training split, which is whole: positions mean files."""
        train = self.folder / "train"
        folders = class_folders(train, self.missing_data, self.classes, self.class_names)
        state = tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders)
        listed = _training_files(state, self._training_images)
        rows = [(int(label), int(position)) for label, _, position in (name.partition("/") for name in names)]
        for label, position in rows:
            if position >= len(listed[label]):
                raise Missing(
                    f"{folders[label]} has {len(listed[label])} images, the calibration list wants number {position}, "
                    "counted from 0: unpack the class again"
                )
        return [folders[label] / listed[label][position] for label, position in rows]

    def data_config(self, model: str) -> dict[str, Any]:
        """Return the data config that timm ships for the tag; an own checkpoint's entry may differ from it."""
        own = self.own_checkpoints.get(model)
        return _timm_config(self.card(model).checkpoint) if own is None else _own_config(own)

    def published_file(self, model: str) -> Path:
        """Return the local checkpoint, else the hub's, downloaded where it is not in the hub's cache."""
        tag = self.card(model).checkpoint
        here = self._local(tag) or _cached(tag)
        if here is not None:
            return here
        try:
            return self._download(tag)
        except (OSError, HfHubHTTPError, ValueError) as error:  # no network, no such file, offline mode
            raise Missing(f"{self.published_source(model)}; the download failed: {first_line(error)}") from error

    def checkpoint_problems(self, model: str) -> list[str]:
        """Say where the checkpoint comes from while it is neither in the folder nor in the hub's cache."""
        tag = self.card(model).checkpoint
        if model in self.own_checkpoints or self._local(tag) or _cached(tag):
            return super().checkpoint_problems(model)
        return [f"{self.published_source(model)}; with a network the first run fetches it"]

    def checkpoint_bytes(self, model: str) -> int:
        """Return the size of the model's parameters."""
        own = self.own_checkpoints.get(model)
        architecture = self.card(model).checkpoint if own is None else own.architecture
        try:
            with torch.device("meta"):
                network = timm.create_model(architecture, pretrained=False, num_classes=self.classes)
        except (RuntimeError, NotImplementedError):  # some models compute with numbers while they are built
            network = timm.create_model(architecture, pretrained=False, num_classes=self.classes)
        return sum(parameter.nbytes for parameter in network.parameters())

    def published_model(self, model: str) -> nn.Module:
        """Build the tagged model and load its checkpoint strictly."""
        tag = self.card(model).checkpoint
        file = self.checkpoint_file(model)
        refuse_disguised(file, "download it again")
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

    def own_model(self, own: OwnCheckpoint) -> nn.Module:
        """Build timm's model of the named architecture."""
        try:
            network: nn.Module = timm.create_model(own.architecture, pretrained=False, num_classes=self.classes)
        except RuntimeError as error:  # how timm says that it has no such model
            raise BadInput(f"{own.name}: timm {timm.__version__} cannot build it ({first_line(error)})") from error
        return network

    def _local(self, tag: str) -> Path | None:
        candidates = (self.checkpoints / f"{tag}{suffix}" for suffix in (".safetensors", ".pth"))
        return next((file for file in candidates if file.exists() or file.is_symlink()), None)

    def published_source(self, model: str) -> str:
        """Say where the checkpoint is published."""
        tag = self.card(model).checkpoint
        return (
            f"the checkpoint of {tag} is not here: download {HUB_FILE} from https://huggingface.co/timm/{tag} "
            f"to {self.checkpoints / f'{tag}.safetensors'}"
        )


@cache
def wordnet_ids() -> tuple[str, ...]:
    """Return the names of the class folders, sorted."""
    known = ImageNetInfo()
    return tuple(known.index_to_label_name(index) for index in range(CLASSES))


@cache
def _training_files(folders: tuple[tuple[str, int], ...], expected: int) -> list[list[str]]:
    """Return the sorted image names of each class folder (path, time of its last change).

    A position in a list means one image only while none is missing, doubled or added, so each name is compared with
    the challenge's form, and their number in all with `expected`.
    """
    listed = [image_names(Path(folder)) for folder, _ in folders]
    for (folder, _), names in zip(folders, listed, strict=True):
        _refuse_strange_names(Path(folder), names)
    found = sum(map(len, listed))
    if found != expected:
        kind, words = (Missing, "missing") if found < expected else (BadInput, "too many")
        raise kind(
            f"{Path(folders[0][0]).parent} has {found} images, expected {expected} ({abs(found - expected)} {words}): "
            "the calibration lists count positions in the whole training split, unpack it again"
        )
    return listed


def _refuse_strange_names(folder: Path, names: Sequence[str]) -> None:
    form = re.compile(rf"{re.escape(folder.name)}_\d+")
    seen: dict[str, str] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        if stem.startswith(VALIDATION_PREFIX):
            raise BadInput(f"{folder / name} is an evaluation image: {folder.parent} must hold the training split only")
        if not form.fullmatch(stem):
            raise BadInput(
                f"{folder / name} is not named as the training images of its class are, {folder.name}_<number>.JPEG: "
                "positions of the calibration lists would shift, remove it or unpack the class again"
            )
        if (first := seen.setdefault(stem, name)) is not name:
            raise BadInput(
                f"{folder / name} is there twice, also as {first}: positions of the calibration lists would shift, "
                "remove one of them"
            )


def _own_config(own: OwnCheckpoint) -> dict[str, Any]:
    """Return the data config of an architecture, with what the checkpoint's entry says instead."""
    known = timm.get_pretrained_cfg(own.architecture)
    return {**({} if known is None else known.to_dict()), **own.data_config}


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
