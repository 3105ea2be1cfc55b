from __future__ import annotations

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from vitptq.tasks.mini.models.vit_conversion import openmmlab_vit_state
from vitptq.tasks.openmmlab.libraries import library

pytest.importorskip("mmseg")


def test_mmsegs_vit_computes_what_timms_does() -> None:
    theirs = VisionTransformer(img_size=28, patch_size=7, embed_dim=24, depth=2, num_heads=3, init_values=0.1).eval()
    with torch.no_grad():
        for block in theirs.blocks:
            block.ls1.gamma.uniform_(0.1, 2.0)
            block.ls2.gamma.uniform_(0.1, 2.0)
    with library("mmseg") as registry:
        ours = registry.MODELS.build(
            {
                "type": "VisionTransformer",
                "img_size": 28,
                "patch_size": 7,
                "patch_bias": True,
                "embed_dims": 24,
                "num_layers": 2,
                "num_heads": 3,
                "norm_cfg": {"type": "LN", "eps": 1e-6},
                "final_norm": True,
            }
        )
    ours.eval()
    ours.load_state_dict(openmmlab_vit_state(theirs.state_dict()))
    images = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        (found,) = ours(images)
        expected = theirs.forward_features(images)[:, 1:]
    assert torch.allclose(found.flatten(2).transpose(1, 2), expected, atol=1e-5)
