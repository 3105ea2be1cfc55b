"""What this machine computes on: its GPUs, or its cores and each worker's share of them."""

from __future__ import annotations

import os

import torch

from vitptq.bench.errors import BadInput
from vitptq.bench.spread import cores


def choose_devices(name: str) -> list[torch.device]:
    """Return the devices to use, one worker each: every GPU for "auto" and "cuda", else the one that is named."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cuda") and gpus:
        return [torch.device("cuda", i) for i in range(gpus)]
    if name in ("auto", "cpu"):
        return [torch.device("cpu")]
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f'unknown device "{name}"; known: auto, cpu, cuda, cuda:N') from None
    if device.type != "cuda" or (device.index or 0) >= gpus:
        raise BadInput(
            f'device "{name}" is not here; this machine has: cpu' + "".join(f", cuda:{i}" for i in range(gpus))
        )
    return [device]


def threads(workers: int) -> int:
    """Return the threads of each worker: its share of the cores, or fewer where OMP_NUM_THREADS says so."""
    share = max(1, cores() // workers)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdecimal() and int(asked) else share
