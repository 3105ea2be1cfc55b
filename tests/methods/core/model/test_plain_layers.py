"""Models that are not plain: refused in words, never replaced by another float function."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.layers import RmsNorm
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.utils import prune

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.minmax import MinMax
from vitptq.methods.repq_vit import RepQViT

BITS = BitSpec(8, 8)


def vit(**changes: object) -> VisionTransformer:
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 7}
    return VisionTransformer(**(options | changes)).eval()  # type: ignore[arg-type]


def hooked(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda _module, _arguments, output: output * 2)


def pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize(
    ("place", "spoil", "words"),
    [
        ("blocks.0.mlp.fc1", hooked, "blocks.0.mlp.fc1 has forward hooks"),
        ("blocks.1.attn", hooked, "blocks.1.attn has forward hooks"),
        ("blocks.1.attn.qkv", lambda m: m.register_forward_pre_hook(lambda *_: None), "has forward pre hooks"),
        ("head", lambda m: nn.utils.weight_norm(m), "weight of head is computed"),
        (
            "patch_embed.proj",
            lambda m: prune.l1_unstructured(m, "weight", 0.5),
            "weight of patch_embed.proj is computed",
        ),
        ("blocks.0.attn.proj", nn.utils.parametrizations.weight_norm, "weight of blocks.0.attn.proj is computed"),
        ("blocks.0.mlp.fc2", nn.utils.parametrizations.spectral_norm, "weight of blocks.0.mlp.fc2 is computed"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
def test_what_a_replacement_would_lose_is_refused(place: str, spoil: Callable[[nn.Module], object], words: str) -> None:
    model = vit()
    spoil(model.get_submodule(place))
    with pytest.raises(Unsupported, match=words):
        prepare(model, BITS)


def test_shared_weights_are_refused() -> None:
    model = vit()
    model.blocks[1].mlp.fc1.weight = model.blocks[0].mlp.fc1.weight
    with pytest.raises(Unsupported, match=r"blocks\.0\.mlp\.fc1 and blocks\.1\.mlp\.fc1 share one weight"):
        prepare(model, BITS)
    model = vit()
    model.blocks[1] = model.blocks[0]
    with pytest.raises(Unsupported, match="share one weight"):
        prepare(model, BITS)


def test_hooks_that_stay_are_kept() -> None:
    model = vit()
    hooked(model.blocks[0])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(prepare(model, BITS).model(images), model(images), rtol=1e-4, atol=1e-5)


def swin(**changes: object) -> SwinTransformer:
    options = {
        "img_size": 32,
        "patch_size": 2,
        "embed_dim": 16,
        "window_size": 4,
        "depths": (2, 2),
        "num_heads": (1, 2),
    }
    return SwinTransformer(**(options | changes)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [vit, swin])
def test_a_norm_that_nothing_folds_into_matters_only_to_methods_that_fold(make: Callable[..., nn.Module]) -> None:
    quantised = MinMax().quantize(make(norm_layer=RmsNorm), RandomImages(), BITS)
    assert torch.isfinite(quantised(next(RandomImages().batches()))).all()
    with pytest.raises(Unsupported, match="nothing can be folded into it"):
        RepQViT().quantize(make(norm_layer=RmsNorm), RandomImages(), BITS)
