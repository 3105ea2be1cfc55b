"""A worker process: which device it takes."""

from __future__ import annotations

from pathlib import Path

import torch

from vitptq.bench.run import worker

DEVICES = [torch.device("cuda", 0), torch.device("cuda", 1)]


def test_each_worker_takes_another_device_and_a_replacement_that_of_the_dead(tmp_path: Path) -> None:
    first, claim = worker._take_device(DEVICES, tmp_path)
    second, _second_claim = worker._take_device(DEVICES, tmp_path)
    assert [first, second] == DEVICES
    claim.release()  # as the operating system does for a process that died
    replacement, _ = worker._take_device(DEVICES, tmp_path)
    assert replacement == first
