"""Families of models: how each one's attention becomes two products with operands, and where its parts are.

A family is one module of this folder that defines `FAMILY`; a new one is found without a change here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.full_model import FullModel
from vitptq.methods.core.model.rotated_parts import Heads, ResidualStream


@dataclass(frozen=True)
class NormReaders:
    """A normalisation and the linear layers that read its output and nothing else."""

    norm: nn.LayerNorm
    readers: tuple[nn.Linear, ...]
    padded: bool = False
    """Whether zeros may be padded between the two, as Swin does where its windows do not divide the feature map."""


def full_name(module: nn.Module) -> str:
    """Return the name of the class of `module` with its package."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def layer_norm(norm: nn.Module) -> nn.LayerNorm:
    """Return `norm` if it can take a scale and a shift in, else say that it cannot."""
    if isinstance(norm, nn.LayerNorm) and norm.elementwise_affine and norm.bias is not None:
        return norm
    raise Unsupported(f"{type(norm).__name__} without scale and shift: nothing can be folded into it")


@dataclass(frozen=True)
class Bridge:
    """A bridge block of Q-HyViT (arXiv 2303.12557): the layers around the switch from local features to tokens.

    Members and outputs are named by their layer. The block's input is that of the first member; its output is that of
    `outputs` (one layer, or the query, key and value layers where they are apart).
    """

    members: tuple[str, ...]
    outputs: tuple[str, ...]
    inside: str
    """The smallest module that holds all members: running it again from its input runs the block again."""


@dataclass(frozen=True)
class Mlp:
    """Two linear layers with a GELU between them, by the names of their modules."""

    whole: str
    """The smallest module that holds all three. It puts out what `second` does, a shortcut added or not."""
    first: str
    activation: str
    second: str


def timm_mlps(blocks: list[tuple[str, Any]]) -> list[Mlp]:
    """Return the MLPs of timm's transformer blocks, given with their names, as far as they have a GELU."""
    found = [(f"{name}.mlp", block.mlp) for name, block in blocks]
    return [
        Mlp(name, f"{name}.fc1", f"{name}.act", f"{name}.fc2")
        for name, mlp in found
        if isinstance(mlp.act, nn.GELU) and isinstance(getattr(mlp, "norm", None), nn.Identity)
    ]


def _nothing(model: Any) -> list[Any]:
    return []


def _as_it_is(model: Any) -> None:
    pass


def _call(model: Any, images: Tensor) -> Tensor | tuple[Tensor, ...]:
    found: Tensor | tuple[Tensor, ...] = model(images)
    return found


@dataclass(frozen=True)
class Family:
    """What the methods need to know of a family; every function takes a model of that family."""

    name: str
    matches: Callable[[nn.Module], bool]
    attention: Mapping[type[nn.Module] | str, Callable[[Any, BitSpec], nn.Module]]
    """For each attention class, the function that gives its form with two products in slots (same parameters). A class
    of an optional package is given by its full name, so that the package is imported only where a model needs it."""
    stem: Callable[[Any], nn.Module]
    """The convolution that reads the image."""
    after_gelu: Callable[[Any], list[nn.Module]]
    """The layers whose input has just left a GELU."""
    norm_readers: Callable[[Any], list[NormReaders]]
    blocks: Callable[[Any], list[tuple[str, nn.Module]]]
    """The units of block-wise reconstruction, in execution order, with their names."""
    after_softmax: Callable[[Any], list[nn.Module]] = _nothing
    """The layers that read attention probabilities, where it is not the product with the values alone."""
    bridges: Callable[[Any], list[Bridge]] = _nothing
    """Where convolutions hand over to attention; none in families that have no convolutions but the stem."""
    fold_batch_norms: Callable[[Any], None] = _as_it_is
    """Folds normalisations into convolutions, in place, before the operands are put in slots."""
    features: Callable[[Any, Tensor], Tensor | tuple[Tensor, ...]] = _call
    """Differentiable outputs for images (B, 3, H, W) without any task: logits, or a detector's or segmenter's feature
    maps. For data-free methods, which have no `calibration.forward`."""
    full_form: Callable[[Any, BitSpec], FullModel] | None = None
    """The form of a prepared model with a slot at every tensor between layers; None where there is none yet."""
    mlps: Callable[[Any], list[Mlp]] = _nothing
    """The MLPs of the blocks, in execution order; none where a family has other activations than GELU."""
    heads: Callable[[Any], list[Heads]] = _nothing
    """The attentions of the float model whose heads can be rotated; none where a family has other ones."""
    residual_stream: Callable[[Any], ResidualStream] | None = None
    """The residual stream of the float model; None where not LayerNorms alone read it."""
    training_only: tuple[str, ...] = ()
    """Children of the model that no prediction uses: they are left as they are, whatever the bit spec names."""

    @property
    def can_rotate(self) -> bool:
        """Tell whether the heads of this family's attentions can be rotated."""
        return self.heads is not _nothing

    def attention_form(self, module: nn.Module) -> Callable[[Any, BitSpec], nn.Module] | None:
        """Return the function that prepares `module`, None where it is no attention of this family."""
        return self.attention.get(type(module)) or self.attention.get(full_name(module))


@cache
def families() -> tuple[Family, ...]:
    """Return every family of this folder."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return tuple(module.FAMILY for module in modules)


def family_of(model: nn.Module) -> Family:
    """Return the family of `model`, or say that none fits."""
    for family in families():
        if family.matches(model):
            return family
    known = ", ".join(family.name for family in families())
    raise Unsupported(
        f"no operand map for {type(model).__name__}; families with one: {known}. "
        "A new family is one file in methods/core/model/families/"
    )
