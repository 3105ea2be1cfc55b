"""A model with nested arguments, run on batches of several sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel, _replace, prepare
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights

BITS = BitSpec(3, 3)


class Shapes(nn.Module):
    """A block called as OpenMMLab's: with a shape beside the tokens, both also put out."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: Tensor, shape: tuple[int, int], *, more: dict[str, Tensor]) -> tuple[Tensor, tuple[int, int]]:
        height, width = shape
        assert x.shape[1] == height * width
        return x + self.fc(self.norm(x)) + more["bias"], shape


class Stages(nn.Module):
    """Tokens of maps of any size, two blocks, and a neck that takes a tuple of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.ModuleList([Shapes(), Shapes()])
        self.neck = Neck()
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(images)
        shape = (x.shape[2], x.shape[3])
        maps = [x]
        tokens = x.flatten(2).transpose(1, 2)
        bias = torch.full((8,), 0.1)
        for block in self.blocks:
            tokens, shape = block(tokens, shape, more={"bias": bias})
            maps.append(tokens.transpose(1, 2).unflatten(2, shape))
        return tuple(self.head(x) for x in self.neck(tuple(maps)))


class Neck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(8, 8, 1) for _ in range(3)])

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        return [layer(x) for layer, x in zip(self.lateral, maps, strict=True)]


class Sizes(RandomImages):
    """Three batches: two shapes, and one of them twice with different numbers of images."""

    def batches(self) -> Iterator[Tensor]:
        images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(7))
        yield images[:3]
        yield images[3:5, :, :12]
        yield images[5:]

    def forward(self, model: nn.Module, batch: Any) -> Any:
        return model(batch)


def stages(bits: BitSpec = BITS) -> tuple[PreparedModel, PreparedModel]:
    """Return the model above with its operands in slots; its family is a ViT's in name only."""
    found = []
    for _ in range(2):
        torch.manual_seed(2)
        model = Stages().eval().requires_grad_(False)
        family = prepare(two_block_models()["ViT"], bits).family
        _replace(model, list(model.named_children()), family, bits, {})
        operands = {n: m for n, m in model.named_modules() if isinstance(m, Operand)}
        for name, operand in operands.items():
            operand.name = name
        found.append(PreparedModel(model, family, bits, operands))
    net, twin = found
    observe_weights(net)
    observe_activations(net, Sizes(), RunningMinMax)
    net.switch(True)
    return net, twin


UNITS = ["stem", "blocks.0", "blocks.1", "neck", "head"]
