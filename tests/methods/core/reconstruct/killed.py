"""A reconstruction that kills its own process in its second unit: `python killed.py FOLDER`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import reporting
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.reconstruct import Settings, Unit, all_units, reconstruct, squared_error
from vitptq.methods.core.reconstruct.least_error_start import calibrated

SETTINGS = Settings(iterations=6, batch=4, weight_rate=0.05, scale_rate=1e-2, seed=1)


def until(name: str, steps: int) -> Any:
    """Return the squared error, which kills the process at a step of one unit."""

    def make(unit: Unit) -> Any:
        plain, taken = squared_error(unit), 0

        def loss(seen: Any) -> Any:
            nonlocal taken
            taken += seen.output.requires_grad
            if unit.name == name and taken == steps:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(seen)

        return loss

    return make


def main(folder: Path) -> None:
    """Reconstruct until killed."""
    net, twin = calibrated(two_block_models()["Swin"], RandomImages(), BitSpec(3, 3))
    with reporting.listening(folder=folder):
        reconstruct(net, twin, RandomImages(), SETTINGS, loss=until("layers.1.downsample", 3), units=all_units(net))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
