"""Devices and cores of this machine."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.errors import BadInput
from vitptq.bench.run import devices


@pytest.mark.parametrize(
    ("asked", "workers", "threads"), [("", 2, 4), ("1", 2, 1), ("16", 2, 4), ("x", 16, 1), ("0", 1, 8)]
)
def test_a_worker_takes_its_share_of_the_cores_or_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, workers: int, threads: int
) -> None:
    monkeypatch.setattr(devices, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert devices.threads(workers) == threads


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="known: auto, cpu, cuda, cuda:N"):
        devices.choose_devices("gpu")


def test_the_cpu_is_one_device() -> None:
    assert devices.choose_devices("cpu") == [torch.device("cpu")]
