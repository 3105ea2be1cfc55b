"""Fixtures that several test files of this folder share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = []
    for position, (level, size) in enumerate([(250, (40, 30)), (0, (64, 64)), (128, (33, 20)), (60, (40, 30))]):
        found.append(tmp_path / f"{position}.png")
        noise = np.random.default_rng(position).integers(0, 5, (size[1], size[0], 3))
        Image.fromarray((level + noise).astype(np.uint8)).save(found[-1])
    return found
