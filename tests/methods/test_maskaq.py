"""MaskAQ: images are renewed for the student, shorter runs say so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.errors import BadInput
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.methods import maskaq
from vitptq.methods.core.datafree.for_two_models import images_for_two
from vitptq.methods.maskaq import MaskAQ

GIVEN: Any = DataFree(INPUT, CPU, 1)
W4A4 = BitSpec(4, 4)
FEW = MaskAQ(images=6, batch=4, steps=2, epochs=3, renew_every=2)


def test_images_are_made_at_the_start_and_after_every_so_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(*args: Any) -> torch.Tensor:
        made.append(images_for_two(*args))
        return made[-1]

    monkeypatch.setattr(maskaq, "images_for_two", counted)
    with listening() as heard:
        FEW.quantize(two_block_models()["ViT"], GIVEN, W4A4)
    assert len(made) == 4  # two batches, twice
    assert heard.images["generated"].shape == (1, 6, 32, 32, 3)


def test_the_student_is_trained_unless_there_is_no_epoch() -> None:
    weight = two_block_models()["ViT"].get_parameter("blocks.0.attn.qkv.weight")
    for epochs, changed in ((0, False), (1, True)):
        method = MaskAQ(images=4, batch=4, steps=1, epochs=epochs)
        found = method.quantize(two_block_models()["ViT"], GIVEN, W4A4)
        assert torch.equal(found.get_parameter("blocks.0.attn.qkv.weight"), weight) != changed


def test_a_shorter_run_is_noted() -> None:
    assert MaskAQ().notes() == []
    assert FEW.notes() == ["reduced: images 6, steps 2, epochs 3"]


def test_numbers_that_make_no_images_are_refused() -> None:
    with pytest.raises(BadInput, match="1 or more"):
        MaskAQ(images=0)
