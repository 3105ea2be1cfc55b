"""Start OpenMMLab's VisionTransformer from timm's: the same function, other names, LayerScale inside a layer."""

from __future__ import annotations

import re

from torch import Tensor

_NAMES = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^blocks\.", "layers."),
    (r"\.norm([12])\.", r".ln\1."),
    (r"\.attn\.qkv\.(weight|bias)$", r".attn.attn.in_proj_\1"),
    (r"\.attn\.proj\.", ".attn.attn.out_proj."),
    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
    (r"^norm\.", "ln1."),
)
_SCALED = {"ls1": "attn.proj", "ls2": "mlp.fc2"}


def openmmlab_vit_state(timm_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of mmseg's `VisionTransformer` for a timm one, its classifier left out.

    mmseg has no LayerScale: each factor goes into the output channel that it multiplies.
    """
    state = {name: value for name, value in timm_state.items() if not name.startswith("head.")}
    for name in [name for name in state if name.endswith(".gamma")]:
        factors = state.pop(name)
        block, scale = name.removesuffix(".gamma").rsplit(".", 1)
        layer = f"{block}.{_SCALED[scale]}"
        state[f"{layer}.weight"] = state[f"{layer}.weight"] * factors[:, None]
        state[f"{layer}.bias"] = state[f"{layer}.bias"] * factors
    return {_renamed(name): value for name, value in state.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name
