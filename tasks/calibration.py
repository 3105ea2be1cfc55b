"""Calibration sets of image files: what a method gets, and that no evaluation image is among them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration, InputSpec
from vitptq.bench.errors import BadInput

VALIDATION_PREFIX = "ILSVRC2012_val_"
"""How ImageNet's evaluation images are named wherever they are put."""

Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])


def as_it_is(batch: Tensor, device: torch.device) -> Tensor:
    """Return a copy on the device."""
    return batch.to(device, copy=True)


class TensorCalibration(Calibration, Generic[Outputs]):
    """The listed images, decoded; no path, name or label leads back to the data set."""

    def __init__(
        self,
        batches: tuple[Tensor, ...],
        spec: InputSpec,
        device: torch.device,
        digest: str,
        forward: Callable[[nn.Module, Tensor], Outputs],
        prepare: Callable[[Tensor, torch.device], Tensor] = as_it_is,
    ) -> None:
        """Keep the batches in host memory.

        `prepare` makes the model's input of each on the device, in a tensor of its own. Neither it nor `forward` is a
        method of a task, which would lead back to its images.
        """
        self.input = spec
        self.device = device
        self.digest = digest
        self._batches = batches
        self._forward: Callable[[nn.Module, Tensor], Outputs] = forward
        self._prepare = prepare

    def batches(self) -> Iterator[Tensor]:
        """Yield (images, channels, height, width) on the device.

        Each is a copy: what a method does to it does not reach the next call.
        """
        for batch in self._batches:
            yield self._prepare(batch, self.device)

    def forward(self, model: nn.Module, batch: Any) -> Outputs:
        """Return the differentiable outputs, as the task defines them."""
        return self._forward(model, batch)


def files_digest(files: Sequence[Path]) -> str:
    """Return the sha256 over class, name and content of the files, so that two machines can compare their sets."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.parent.name}/{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def refuse_same_split(train: Path, val: Path) -> None:
    """Raise BadInput where the training split is the evaluation split."""
    if train.resolve() == val.resolve():
        raise BadInput(f"{train} is {val}: calibration would read evaluation images; put the training split there")


def refuse_leak(files: Sequence[Path], *, train: Path, val: Path) -> None:
    """Raise BadInput where a calibration image is an evaluation image: by folder, name, link or inode.

    A copy under another name is not noticed.
    """
    refuse_same_split(train, val)
    leaked = next((file for file in files if _is_evaluation_image(file, train, val)), None) or _hard_linked(files, val)
    if leaked is not None:
        raise BadInput(f"{leaked} is an evaluation image: {train} must hold the training split only")


def _is_evaluation_image(file: Path, train: Path, val: Path) -> bool:
    outside = not file.is_relative_to(train) or file.resolve().is_relative_to(val.resolve())
    return outside or file.name.startswith(VALIDATION_PREFIX) or (val / file.relative_to(train)).exists()


def _hard_linked(files: Sequence[Path], val: Path) -> Path | None:
    # Comparing inodes means asking for every evaluation image's, so only for files that have a second name somewhere.
    linked = {_inode(file): file for file in files if file.stat().st_nlink > 1}
    if not linked:
        return None
    evaluation = (_inode(file) for file in val.rglob("*") if file.exists())  # a link may lead nowhere
    return next((linked[inode] for inode in evaluation if inode in linked), None)


def _inode(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_dev, stat.st_ino
