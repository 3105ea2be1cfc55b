"""What every task shares whose images are files: where they are, what is missing, which of them calibrate."""

from __future__ import annotations

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration, InputSpec
from vitptq.bench.contracts.task import ModelCard, Task
from vitptq.bench.errors import BadInput, Missing, UnknownName

CACHE_BYTES = 512 * 2**20
Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])


class FileTask(Task):
    """A task on a data set in files, with published lists of calibration images; editions say where everything is."""

    images: int | None
    """Evaluation images; None: any number."""

    def __init__(
        self, *, images: int | None, batch_size: int, workers: int | None = None, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Keep decoded evaluation images of at most `cache_bytes` in memory for the next cell.

        What is not kept is decoded by `workers` processes (default: one per usable core, at most 8).
        """
        self.images = images
        self.batch_size = batch_size
        self.workers = min(8, len(os.sched_getaffinity(0))) if workers is None else workers
        self.cache_bytes = cache_bytes

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

    @abstractmethod
    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return where the listed images are."""

    @abstractmethod
    def float_model(self, model: str) -> nn.Module:
        """Build the model with its weights, checked."""

    @abstractmethod
    def checkpoint_file(self, model: str) -> Path:
        """Return where the model's weights are, or belong."""

    @abstractmethod
    def missing_checkpoint(self, model: str) -> str:
        """Say in one sentence how to get the model's weights and where they go."""

    def card(self, model: str) -> ModelCard:
        """Return the card of `model`, or raise UnknownName with the nearest name."""
        cards = self.models()
        if model not in cards:
            raise UnknownName("model", model, cards)
        return cards[model]

    def problems(self, model: str) -> list[str]:
        """Say what is missing on this machine to run `model`: one sentence each, with the next step."""
        self.card(model)
        complete = all(path.exists() for path in self.needed)
        return ([] if complete else [self.missing_data]) + self.checkpoint_problems(model)

    def checkpoint_problems(self, model: str) -> list[str]:
        """Say what is wrong with the model's checkpoint on this machine."""
        return [] if self.checkpoint_file(model).is_file() else [self.missing_checkpoint(model)]

    def location(self, model: str) -> str:
        """Say where the images and the weights are."""
        return f"images in {self.folder}, weights in {self.checkpoint_file(model)}"

    def image_folders(self) -> Sequence[Path]:
        """Return the folder of the data set."""
        return (self.folder,)

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
            raise Missing(
                f"{absent[0]} is not there ({len(absent)} of {len(files)} listed calibration images are missing): "
                "the training split is incomplete, unpack or generate it again"
            )
        return files

    def example(self, model: str, device: torch.device) -> Tensor:
        """Return (1, channels, height, width) noise in the scale of a normalised image; it needs no data."""
        return torch.randn(1, *self.input(model).shape, generator=torch.Generator().manual_seed(0)).to(device)


class TensorCalibration(Calibration, Generic[Outputs]):
    """The listed images, decoded and preprocessed; no path, name or label leads back to the data set."""

    def __init__(
        self,
        batches: tuple[Tensor, ...],
        spec: InputSpec,
        device: torch.device,
        digest: str,
        forward: Callable[[nn.Module, Tensor], Outputs],
    ) -> None:
        """Keep the batches in host memory; `forward` is a plain function: a method would lead back to its task."""
        self.input = spec
        self.device = device
        self.digest = digest
        self._batches = batches
        self._forward: Callable[[nn.Module, Tensor], Outputs] = forward

    def batches(self) -> Iterator[Tensor]:
        """Yield (images, channels, height, width) on the device.

        Each is a copy: what a method does to it does not reach the next call.
        """
        for batch in self._batches:
            yield batch.to(self.device, copy=True)

    def forward(self, model: nn.Module, batch: Any) -> Outputs:
        """Return the differentiable outputs, as the task defines them."""
        return self._forward(model, batch)


def state_of(files: Sequence[Path], reading: Any) -> str:
    """Return a text that changes with the files and with `reading`, which says in JSON values how they are read."""
    stats = [file.stat() for file in files]
    listed = [(str(file), stat.st_size, stat.st_mtime_ns) for file, stat in zip(files, stats, strict=True)]
    return json.dumps([listed, reading])


def files_digest(files: Sequence[Path]) -> str:
    """Return the sha256 over class, name and content of the files, so that two machines can compare their sets."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.parent.name}/{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def plain(config: Any) -> Any:
    """Return a config as JSON values: tuples become lists."""
    return json.loads(json.dumps(config))


def refuse_leak(files: Sequence[Path], *, train: Path, val: Path) -> None:
    """Raise BadInput where a calibration image is an evaluation image: by folder, name, link or inode.

    A copy under another name is not noticed.
    """
    if train.resolve() == val.resolve():
        raise BadInput(f"{train} is {val}: calibration would read evaluation images; put the training split there")
    leaked = next((file for file in files if _is_evaluation_image(file, train, val)), None) or _hard_linked(files, val)
    if leaked is not None:
        raise BadInput(f"{leaked} is an evaluation image: {train} must hold the training split only")


def _is_evaluation_image(file: Path, train: Path, val: Path) -> bool:
    outside = not file.is_relative_to(train) or file.resolve().is_relative_to(val.resolve())
    return outside or file.name.startswith("ILSVRC2012_val_") or (val / file.relative_to(train)).exists()


def _hard_linked(files: Sequence[Path], val: Path) -> Path | None:
    # Comparing inodes means asking for every evaluation image's, so only for files that have a second name somewhere.
    linked = {_inode(file): file for file in files if file.stat().st_nlink > 1}
    if not linked:
        return None
    return next((linked[inode] for inode in map(_inode, val.rglob("*")) if inode in linked), None)


def _inode(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_dev, stat.st_ino
