"""Generated images that are kept: what they repeat, and files that hold none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.methods.core.datafree.kept_images import read
from vitptq.methods.psaq_vit import PsaqVit
from vitptq.methods.psaq_vit_v2 import PsaqVitV2

GIVEN = DataFree(INPUT, CPU)


@pytest.mark.parametrize("cls", [PsaqVit, PsaqVitV2])
def test_kept_images_repeat_the_calibration(cls: type[PsaqVit] | type[PsaqVitV2], tmp_path: Path) -> None:
    model, bits = two_block_models()["ViT"], BitSpec(4, 4)
    settings = dict(cls.trial) | ({"learn_steps": 0} if cls is PsaqVitV2 else {})
    with listening() as heard:
        first = cls.configured(settings).quantize(model, GIVEN, bits)
    assert heard.figures["generation_s"] > 0
    np.savez_compressed(tmp_path / "kept.npz", **heard.images)
    torch.manual_seed(1)
    again = cls.configured({"kept": str(tmp_path / "kept.npz")}).quantize(model, GIVEN, bits)
    images = torch.randn(3, *INPUT.shape)
    with torch.no_grad():
        assert torch.equal(first(images), again(images))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(Missing, match=r"nowhere\.npz is not there; name a file of kept images"):
        read("nowhere.npz", GIVEN)


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


DAMAGED = archive(generated=np.arange(4096) % 7)[:-40]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x93NUMPY", DAMAGED, archive(other=np.zeros(1))])
def test_a_file_without_images_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kept.npz"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="holds no generated images"):
        read(str(path), GIVEN)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "kept.npz", generated=np.zeros((1, 2, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(BadInput, match=r"\(16, 16, 3\); the model reads \(32, 32, 3\)"):
        read(str(tmp_path / "kept.npz"), GIVEN)
