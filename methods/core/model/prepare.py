"""Prepare a model for quantisation: every product named, a slot in front of each side, nothing quantised yet."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from vitptq.bench.bits import PARTS, BitSpec, Role
from vitptq.bench.contracts.method import Calibration
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.families import Bridge, Family, NormReaders, families, family_of
from vitptq.methods.core.model.full_model import FullModel
from vitptq.methods.core.model.operands import Conv2d, ConvTranspose2d, Layer, Linear, Operand
from vitptq.methods.core.model.plain_layers import LAYERS, refuse_lost_parts

MMCV_LAYERS = "mmcv.cnn.bricks.wrappers"

_Module = TypeVar("_Module", bound=nn.Module)
Children = list[tuple[str, nn.Module]]
"""(name, module) each."""


@dataclass(frozen=True)
class PreparedModel:
    """A copy of a float model with its operands in slots; the float function is unchanged until they are on."""

    model: nn.Module
    family: Family
    bits: BitSpec
    operands: dict[str, Operand]

    @property
    def weights(self) -> dict[str, Operand]:
        """Return the weight slots by name."""
        return {name: operand for name, operand in self.operands.items() if operand.role == "weight"}

    @property
    def activations(self) -> dict[str, Operand]:
        """Return the slots of everything that is not a weight."""
        return {name: operand for name, operand in self.operands.items() if operand.role != "weight"}

    @property
    def layers(self) -> dict[str, Layer]:
        """Return the layers whose weights are in slots by name."""
        found = ((name.rpartition(".")[0], operand) for name, operand in self.weights.items())
        return {name: self._layer(operand) for name, operand in found}

    def weight(self, operand: Operand) -> Tensor:
        """Return the parameter that a weight slot reads."""
        return self._layer(operand).weight

    def _layer(self, operand: Operand) -> Layer:
        layer = self.model.get_submodule(operand.name.rpartition(".")[0])
        assert isinstance(layer, Layer)
        return layer

    def twin(self) -> PreparedModel:
        """Return a copy with all slots off: as it is now, whatever weights this model is given later.

        Both read the same parameters until then.
        """
        model = copy.deepcopy(self.model, {id(p): p for p in self.model.parameters()})
        twin = replace(self, model=model, operands=_named_slots(model))
        twin.switch(False)
        return twin

    def norm_readers(self) -> list[tuple[nn.LayerNorm, tuple[Linear, ...]]]:
        """Return each normalisation with the linear layers that alone read it; all must be able to take a fold."""
        pairs: list[NormReaders] = self.family.norm_readers(self.model)
        found = [(p, tuple(r for r in p.readers if isinstance(r, Linear))) for p in pairs]
        for pair, readers in found:
            for reader in readers:
                reader.behind_padding = pair.padded
        return [(pair.norm, readers) for pair, readers in found]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Return the units of block-wise reconstruction, in execution order."""
        return self.family.blocks(self.model)

    def bridges(self) -> list[Bridge]:
        """Return the bridge blocks, in execution order; none where the family has no convolutions but the stem."""
        return self.family.bridges(self.model)

    def switch(self, on: bool, *, image: bool = True) -> nn.Module:
        """Switch every operand on or off and return the model; without `image`, the image stays in float."""
        for operand in self.operands.values():
            operand.on = on and (image or operand.role != "stem_input")
        return self.model

    def replaced(self, modules: Mapping[str, nn.Module]) -> PreparedModel:
        """Put other modules into the places of those named, and return the model with the slots that it has then."""
        for name, module in modules.items():
            self.model.set_submodule(name, module.eval(), strict=True)
        return replace(self, operands=_named_slots(self.model))

    @torch.no_grad()
    def run(self, calibration: Calibration) -> None:
        """Feed the calibration set through the model, for what the slots watch."""
        for batch in calibration.batches():
            calibration.forward(self.model, batch)


def prepare(model: nn.Module, bits: BitSpec) -> PreparedModel:
    """Return a copy of `model` with its operands in slots; the float function is unchanged to 1e-5 (relative)."""
    if bits.removed:
        raise Unsupported(f"{bits} asks for low-rank factors, which low-rank methods alone make; give {bits.dense}")
    family = family_of(model)
    _refuse_absent_parts(model, bits)
    refuse_lost_parts(model, list(_replaced(_in_scope(model, family, bits), family)))
    net = _copy(model)
    net.eval()  # on its own: OpenMMLab's backbones do not return themselves
    net.requires_grad_(False)
    family.fold_batch_norms(net)
    roles: dict[nn.Module, Role] = {family.stem(net): "stem_input"}
    roles |= dict.fromkeys(family.after_gelu(net), "gelu")
    roles |= dict.fromkeys(family.after_softmax(net), "softmax")
    _replace(net, _in_scope(net, family, bits), family, bits, roles)
    return PreparedModel(net, family, bits, _named_slots(net))


def prepare_in_full(model: nn.Module, bits: BitSpec) -> tuple[PreparedModel, FullModel]:
    """Return a copy of `model` with a slot at every tensor, not only at operands; and its module by its own type.

    The float function is unchanged to 1e-5 (relative).
    """
    net = prepare(model, bits)
    if net.family.full_form is None:
        known = ", ".join(family.name for family in families() if family.full_form)
        raise Unsupported(
            f"no fully quantised form of {type(model).__name__} (family {net.family.name}); families with one: {known}"
        )
    full = net.family.full_form(net.model, bits).eval()
    return replace(net, model=full, operands=_named_slots(full)), full


def _named_slots(net: nn.Module) -> dict[str, Operand]:
    operands = {}
    for name, module in net.named_modules():
        if isinstance(module, Operand):
            module.name = name
            operands[name] = module
    return operands


def _copy(model: nn.Module) -> nn.Module:
    """Return a deep copy of `model` whose activations do not overwrite what a method may have recorded.

    timm's EfficientFormers keep attention biases that they looked up once; such a tensor may belong to a graph, which
    cannot be copied, and the copy looks them up again.
    """
    caches = [getattr(module, "attention_bias_cache", None) for module in model.modules()]
    net = copy.deepcopy(model, {id(cache): {} for cache in caches if cache is not None})
    for module in net.modules():
        if getattr(module, "inplace", False):
            vars(module)["inplace"] = False
    return net


def _refuse_absent_parts(model: nn.Module, bits: BitSpec) -> None:
    for part in bits.parts:
        if not any(isinstance(getattr(model, name, None), nn.Module) for name in PARTS[part]):
            raise Unsupported(f"{bits} names the {part}, and {type(model).__name__} has none")


def _in_scope(model: nn.Module, family: Family, bits: BitSpec) -> Children:
    """Return the model's parts but for those that the spec leaves in float and those that only training uses."""
    return [
        (name, child)
        for name, child in model.named_children()
        if not bits.leaves(name) and name not in family.training_only
    ]


def _replace(
    parent: nn.Module, children: Children, family: Family, bits: BitSpec, roles: dict[nn.Module, Role]
) -> None:
    """Replace attention, linear layers and convolutions among and below the children of `parent`."""
    for name, child in children:
        new = _prepared_form(child, family, bits, roles.get(child, "input"))
        if new is not child:
            new.train(child.training)
            setattr(parent, name, new)
        if not isinstance(new, Layer):
            _replace(new, list(new.named_children()), family, bits, roles)


def _replaced(children: Children, family: Family, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield what `_replace` replaces, with its name."""
    for own, child in children:
        name = f"{prefix}{own}"
        if isinstance(child, LAYERS) or family.attention_form(child) is not None:
            yield name, child
        else:
            yield from _replaced(list(child.named_children()), family, f"{name}.")


def _prepared_form(module: nn.Module, family: Family, bits: BitSpec, role: Role) -> nn.Module:
    attention = family.attention_form(module)
    if attention is not None:
        return attention(module, bits)
    if _is_plain(module, nn.Linear):
        return Linear(module, bits, role)
    if _is_plain(module, nn.Conv2d):
        return Conv2d(module, bits, role)
    if _is_plain(module, nn.ConvTranspose2d):
        return ConvTranspose2d(module, bits, role)
    return module


def _is_plain(module: nn.Module, kind: type[_Module]) -> TypeGuard[_Module]:
    """Tell whether `module` is torch's `kind` itself, or mmcv's copy of it.

    mmcv's classes take empty batches, which torch's have learnt since; other subclasses compute something else.
    """
    return type(module) is kind or (type(module).__module__ == MMCV_LAYERS and isinstance(module, kind))
