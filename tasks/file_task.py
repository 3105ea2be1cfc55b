"""What every task shares whose images are files: where they are, what is missing, which of them calibrate."""

from __future__ import annotations

import json
import os
import shutil
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.locations import image_cache
from vitptq.bench.contracts.task import Lack, ModelCard, Progress, Task
from vitptq.bench.errors import BadInput, Missing, UnknownName, VitptqError
from vitptq.tasks import kept_images
from vitptq.tasks.checkpoints import refuse_other_hash, refuse_unreadable
from vitptq.tasks.decoding import Decoded, ImageSource, decoded
from vitptq.tasks.foreign_files import disguise, stat_of
from vitptq.tasks.image_cache import ImageCache, folder_name

CACHE_BYTES = 512 * 2**20
SHARED_BYTES = 256 * 2**20
"""Shared memory that a decoding process needs: it is two batches ahead, of 77 MB each for 128 images of 224 pixels."""


DECODERS = "VITPTQ_DECODERS"
"""How many processes may decode images for this one; a run sets it to each worker's share of the cores."""
MOST_DECODERS = 16
T = TypeVar("T")


def decoders(shared_memory: Path = Path("/dev/shm")) -> int:
    """Return how many processes may decode images: they hand batches over in shared memory."""
    asked = os.environ.get(DECODERS, "")
    cores = int(asked) if asked.isdecimal() else min(MOST_DECODERS, len(os.sched_getaffinity(0)))
    try:
        free = shutil.disk_usage(shared_memory).free
    except OSError:  # not Linux
        return cores
    return min(cores, free // SHARED_BYTES)


class FileTask(Task):
    """A task on a data set in files, with published lists of calibration images; editions say where everything is."""

    images: int | None
    """Evaluation images; None: any number."""

    def __init__(
        self, *, images: int | None, batch_size: int, workers: int | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Decode images with `workers` processes, and keep them for the next cell: on disk where that is wanted.

        Otherwise those that fit into `cache_bytes` are kept in memory. `workers` is by default VITPTQ_DECODERS, or one
        per usable core, and no more than shared memory has room for: containers often have 64 MB of it, and then this
        process decodes.
        """
        self.images = images
        self.batch_size = batch_size
        self.workers = decoders() if workers is None else workers
        self.cache_bytes = cache_bytes
        self._waited = 0.0
        self._pixels: dict[str, str] = {}

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Return the data set's folder."""

    @property
    @abstractmethod
    def needed(self) -> Sequence[Path]:
        """Return the files and folders without which nothing can be measured."""

    @property
    @abstractmethod
    def missing_data(self) -> str:
        """Say in one sentence how to get the data and where it goes."""

    @property
    @abstractmethod
    def calibration_source(self) -> str:
        """Name the published calibration lists, for the record."""

    @abstractmethod
    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the whole published list of one seed."""

    @property
    @abstractmethod
    def calibration_seeds(self) -> Sequence[int]:
        """Return the seeds that have a published list."""

    @abstractmethod
    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return where the listed images are."""

    @abstractmethod
    def float_model(self, model: str) -> nn.Module:
        """Build the model with its weights, checked."""

    @abstractmethod
    def checkpoint_file(self, model: str) -> Path:
        """Return where the model's weights are, or belong."""

    def checkpoint_digest(self, model: str) -> str | None:
        """Return the first digits of the sha256 that the model's weights must have; None where none is published."""
        return None

    @abstractmethod
    def missing_checkpoint(self, model: str) -> str:
        """Say in one sentence how to get the model's weights and where they go."""

    def card(self, model: str) -> ModelCard:
        """Return the card of `model`, or raise UnknownName with the nearest name."""
        cards = self.models()
        if model not in cards:
            raise UnknownName("model", model, cards)
        return cards[model]

    @abstractmethod
    def check_data(self) -> int:
        """Return the number of evaluation images; raise where they are not what a run needs. No image is decoded."""

    def problems(self, model: str) -> list[str]:
        """Say what keeps a run of `model` from starting on this machine: one sentence each, with the next step."""
        self.card(model)
        return self.data_problems() + self.checkpoint_problems(model)

    def lacks(self, models: Iterable[str]) -> list[Lack]:
        """Return all that keeps a run of any of the models from starting here; the data is looked at once."""
        absent = not all(path.exists() for path in self.needed)
        found = [Lack(text, self.data_bytes if absent else 0) for text in self.data_problems()]
        for model in models:
            texts = self.checkpoint_problems(model)
            found += [Lack(text, self.checkpoint_bytes(model)) for text in texts]
        return found

    data_bytes: ClassVar[int] = 0
    """Size of the data set's downloads; 0 where nothing has to be downloaded."""

    def checkpoint_bytes(self, model: str) -> int:
        """Return about how large the model's checkpoint is, where it is not here."""
        return 0

    def room_for_images(self, model: str, calibration_size: int, seed: int) -> Mapping[Path, int]:
        """Return the folders of the decoded images, with their sizes; rounded up where sizes vary."""
        root = image_cache()
        if root is None:
            return {}
        wanted = {"evaluation": self.images or 0, f"calibration-{seed}": calibration_size}
        sources = {use: self.planned_source(model, use) for use, count in wanted.items() if count}
        return {root / folder_name(source): wanted[use] * source.bytes_each for use, source in sources.items()}

    def data_problems(self) -> list[str]:
        """Say what is missing or wrong of the evaluation images, and of the images on any published list."""
        if not all(path.exists() for path in self.needed):
            return [self.missing_data]
        try:
            self.check_data()
            for seed in self.calibration_seeds:
                self.listed_files(len(self.calibration_list(seed)), seed)
        except VitptqError as error:
            return [str(error)]
        return []

    def checkpoint_problems(self, model: str) -> list[str]:
        """Say what is missing or wrong of the model's checkpoint; its tensors are not read."""
        file = self.checkpoint_file(model)
        if not file.exists() and not file.is_symlink():
            return [self.missing_checkpoint(model)]
        try:
            refuse_unreadable(file)
            refuse_other_hash(file, self.checkpoint_digest(model))
        except VitptqError as error:
            return [str(error)]
        return []

    def data_location(self) -> str:
        """Say how many evaluation images there are, and where."""
        return f"{self.check_data():,} evaluation images in {self.folder}"

    def location(self, model: str) -> str:
        """Say where the weights are."""
        return f"weights in {self.checkpoint_file(model)}"

    def image_folders(self) -> Sequence[Path]:
        """Return the folder of the data set, and of what is decoded of it."""
        return (self.folder, *_cache())

    @abstractmethod
    def evaluation_data(self) -> Sequence[Path]:
        """Return the folders and files of the data set that hold the evaluation images and their labels."""

    def evaluation_folders(self) -> Sequence[Path]:
        """Return where the evaluation images and their labels are, also what is decoded of them."""
        return (*self.evaluation_data(), *_cache())

    @abstractmethod
    def evaluation_source(self, model: str) -> ImageSource:
        """Return the evaluation images as `model` reads them, in the order of the evidence or a fixed other one."""

    @abstractmethod
    def planned_source(self, model: str, use: str) -> ImageSource:
        """Return the images of a use, "evaluation" or "calibration-SEED", without looking for their files."""

    def preload(self, model: str, progress: Progress | None = None) -> None:
        """Have the evaluation images decoded: on disk, or as many as fit into memory."""
        self.evaluation_images(model, self.evaluation_source(model), progress)

    def evaluation_images(self, model: str, source: ImageSource, progress: Progress | None = None) -> Iterable[Decoded]:
        """Return the decoded images of `evaluation_source(model)`."""
        found = kept_images.kept(source, image_cache(), self.cache_bytes, progress or _unseen)
        if isinstance(found, ImageCache):
            self._pixels[model] = found.digest
        return found

    def calibration_images(self, source: ImageSource, size: int) -> Iterable[Decoded]:
        """Return the first `size` decoded images of a published list."""
        folder = image_cache()
        return decoded(source, 0, size) if folder is None else ImageCache(folder, source, size).fill(_unseen)

    def waiting(self, images: Iterable[T]) -> Iterator[T]:
        """Yield the images; the time until each is there counts as decoding."""
        iterator = iter(images)
        while True:
            started = time.perf_counter()
            try:
                image = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - started
            yield image

    def seconds_waited(self) -> float:
        """Return how long evaluations of this process have waited for decoded images."""
        return self._waited

    def pixels_hash(self, model: str) -> dict[str, str]:
        """Return the hash of the decoded evaluation images where it is known: by {"pixels": sha256}."""
        return {"pixels": self._pixels[model]} if model in self._pixels else {}

    def drop_images(self) -> None:
        """Keep no decoded evaluation image in this process."""
        kept_images.drop()

    def images_set_aside(self) -> AbstractContextManager[None]:
        """Keep the decoded evaluation images out of reach inside."""
        return kept_images.set_aside()

    def calibration_names(self, size: int, seed: int) -> Sequence[str]:
        """Return the first `size` names of the seed's published list."""
        names = self.calibration_list(seed)
        if not names:
            raise BadInput(f"the calibration list of seed {seed} is empty ({self.calibration_source})")
        if not 1 <= size <= len(names):
            raise BadInput(f"{size} calibration images: the list of seed {seed} has 1 to {len(names)}")
        return names[:size]

    def listed_files(self, size: int, seed: int) -> list[Path]:
        """Return the files of `calibration_names(size, seed)`, all of which are there."""
        files = self.calibration_files(self.calibration_names(size, seed))
        absent = [file for file in files if not file.is_file()]
        if absent:
            found = disguise(absent[0]) if absent[0].is_symlink() else "not there"
            raise Missing(
                f"{absent[0]} is {found} ({len(absent)} of {len(files)} listed calibration images are missing): "
                "the training split is incomplete, unpack or generate it again"
            )
        return files

    def example(self, model: str, device: torch.device) -> Tensor:
        """Return (1, channels, height, width) noise in the scale of a normalised image; it needs no data."""
        return torch.randn(1, *self.input(model).shape, generator=torch.Generator().manual_seed(0)).to(device)


def state_of(files: Sequence[Path], reading: Any) -> str:
    """Return a text that changes with the files and with `reading`, which says in JSON values how they are read."""
    stats = [stat_of(file) for file in files]
    listed = [(str(file), stat.st_size, stat.st_mtime_ns) for file, stat in zip(files, stats, strict=True)]
    return json.dumps([listed, reading])


def _cache() -> Iterator[Path]:
    folder = image_cache()
    if folder is not None:
        yield folder


def _unseen(_done: int, _total: int) -> None:
    """Show no progress."""


def plain(config: Any) -> Any:
    """Return a config as JSON values: tuples become lists."""
    return json.loads(json.dumps(config))
