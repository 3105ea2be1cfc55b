"""Class folders and decoding on small files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from vitptq.bench.errors import BadInput
from vitptq.tasks.classification import images
from vitptq.tasks.classification.images import decoded, transform

CONFIG = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


def save(path: Path, level: int, size: tuple[int, int] = (12, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path, format="JPEG")
    return path


def test_decoding_keeps_order_and_spares_the_global_generator(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{level}.JPEG", level) for level in (250, 0, 128, 60)]
    before = torch.random.get_rng_state()
    batches = list(decoded(files, transform(CONFIG), batch_size=3, workers=0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [tuple(batch.shape) for batch in batches] == [(3, 3, 8, 8), (1, 3, 8, 8)]
    assert torch.cat(batches).mean(dim=(1, 2, 3)).argsort().tolist() == [1, 3, 2, 0]


# Python 3.12 warns of forking beside torch's threads; torch's loader does it.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_worker_processes_decode_the_same_and_name_a_damaged_file(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{level}.JPEG", level) for level in (250, 0, 128)]
    alone = torch.cat(list(decoded(files, transform(CONFIG), batch_size=2, workers=0)))
    assert torch.equal(torch.cat(list(decoded(files, transform(CONFIG), batch_size=2, workers=1))), alone)
    files[1].write_bytes(b"not an image")
    with pytest.raises(BadInput, match=r"^\S+0\.JPEG is not a readable image"):
        list(decoded(files, transform(CONFIG), batch_size=2, workers=1))


def test_decoded_set_is_kept_until_a_file_changes(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{level}.JPEG", level) for level in (250, 0)]
    first = images.decoded_once(files, CONFIG, 8, 0)
    assert images.decoded_once(files, CONFIG, 8, 0) is first
    save(files[1], 255, size=(40, 40))
    os.utime(files[1], ns=(1, 1))
    assert images.decoded_once(files, CONFIG, 8, 0)[1].mean() > 0.9
