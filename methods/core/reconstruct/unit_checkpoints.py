"""Finished units on disk, so that a killed reconstruction goes on behind the last of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.files import write_atomically

Numbers = dict[str, float]


@dataclass(frozen=True)
class Finished:
    """What is kept of a unit."""

    state: dict[str, Tensor]
    before: Numbers
    after: Numbers
    parts: int


class UnitCheckpoints:
    """The finished units of one reconstruction; only those with the right key are found."""

    def __init__(self, folder: Path | None, tag: str, key: str) -> None:
        self.folder, self.tag, self.key = folder, tag, key
        self.ignored: list[str] = []
        """Files that were there and are not whole, or belong to something else."""

    def get(self, number: int, like: dict[str, Tensor]) -> Finished | None:
        """Return a finished unit, or None; its state must have the names, shapes and types of `like`."""
        path = self._path(number)
        if path is None or not path.exists():
            return None
        digest, _, data = path.read_bytes().partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() != digest:
            self.ignored.append(path.name)
            return None
        line, _, tensors = data.partition(b"\n")
        header = json.loads(line)
        state = safetensors.torch.load(tensors)
        fits = {n: (x.shape, x.dtype) for n, x in state.items()} == {n: (x.shape, x.dtype) for n, x in like.items()}
        if header["key"] != self.key or not fits:
            self.ignored.append(path.name)
            return None
        return Finished(state, header["before"], header["after"], header["parts"])

    def put(self, number: int, finished: Finished) -> None:
        """Keep a finished unit."""
        path = self._path(number)
        if path is None:
            return
        header = {"key": self.key, "before": finished.before, "after": finished.after, "parts": finished.parts}
        whole = {name: x.detach().cpu().contiguous() for name, x in finished.state.items()}
        data = json.dumps(header).encode() + b"\n" + safetensors.torch.save(whole)
        write_atomically(path, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)

    def _path(self, number: int) -> Path | None:
        return None if self.folder is None else self.folder / f"{self.tag}-{number:04}.unit"


def fingerprint(models: tuple[nn.Module, ...], calibration: Calibration, *more: object) -> str:
    """Hash what the result of a reconstruction depends on."""
    digest = hashlib.sha256(repr(more).encode())
    for model in models:
        for name, x in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(_bytes(x))
    digest.update(calibration.digest.encode())
    if not calibration.digest:
        for batch in calibration.batches():
            digest.update(_bytes(batch))
    return digest.hexdigest()


def _bytes(x: Tensor) -> bytes:
    data: bytes = x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return data
