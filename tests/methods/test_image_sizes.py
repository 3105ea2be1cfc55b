"""Methods that look at what layers read or put out, on calibration images of different sizes, as detectors have them.

AdaLog and APHQ-ViT, which search on an evenly spread part of what an operator reads, have such a test of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from tests.methods.core.model.openmmlab_models import Images, deit_upernet, mask_rcnn
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Method
from vitptq.bench.run.audit import audit
from vitptq.methods.easyquant import EasyQuant
from vitptq.methods.erq import ERQ
from vitptq.methods.gptaq import GPTAQ
from vitptq.methods.mixed_rank import MixedRankCnorm
from vitptq.methods.noisyquant import NoisyQuant
from vitptq.methods.ptq4vit import PTQ4ViT
from vitptq.methods.qep import QEP

BACKBONE, ALL = BitSpec(4, 4), BitSpec(4, 4, ("neck", "heads"))
FEW: dict[str, Any] = {"rounds": 1, "candidates": 4}
CASES: dict[str, tuple[Callable[[], nn.Module], Method, BitSpec]] = {
    "detector, PTQ4ViT": (mask_rcnn, PTQ4ViT(**FEW), BACKBONE),
    "segmenter, PTQ4ViT": (deit_upernet, PTQ4ViT(**FEW), ALL),
    "segmenter, EasyQuant": (deit_upernet, EasyQuant(**FEW), ALL),
    "segmenter, EasyQuant by image": (deit_upernet, EasyQuant(**FEW, similarity="tensor"), BACKBONE),
    "detector with its heads, GPTAQ": (mask_rcnn, GPTAQ(), BitSpec(3, 32, ("neck", "heads"))),
    "segmenter, QEP": (deit_upernet, QEP(rounding="comq"), ALL),
    "segmenter, ERQ": (deit_upernet, ERQ(), BACKBONE),
    "detector with its heads, NoisyQuant": (mask_rcnn, NoisyQuant(**NoisyQuant.trial), ALL),
    "detector, mixed rank": (mask_rcnn, MixedRankCnorm(rank=1, steps=2), BitSpec(32, 32, removed=20)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_operand_gets_its_grid(case: str) -> None:
    build, method, bits = CASES[case]
    images = Images((32, 64), (40, 56))
    quantised = method.quantize(build(), images, bits)
    example = next(iter(images.batches()))[:1]
    assert not audit(quantised, bits, example, images.forward).violations
