"""OpenMMLab's Swin: where the parts are, as a backbone by itself and in a detector."""

from __future__ import annotations

import pytest

from tests.methods.core.model.openmmlab_models import bare_swin, mask_rcnn
from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.prepare import prepare

BITS = BitSpec(4, 4)


def test_parts_have_the_same_names_below_the_backbone_of_a_detector() -> None:
    pytest.importorskip("mmdet")
    pytest.importorskip("mmseg")
    alone, detector = prepare(bare_swin(), BITS), prepare(mask_rcnn(), BITS)
    names = [name for name, _ in alone.blocks()]
    assert [name for name, _ in detector.blocks() if name.startswith("backbone.")] == [f"backbone.{n}" for n in names]
    assert len(alone.norm_readers()) == len(detector.norm_readers())
    assert any(name.endswith("downsample") for name in names)
