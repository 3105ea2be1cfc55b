"""Make a model's operands explicit: every product named, a slot in front of each side, nothing quantised yet."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.bits import PARTS, BitSpec, Role
from bench.errors import Unsupported
from bench.protocol import Calibration
from methods.core.families import Bridge, Family, NormReaders, family_of
from methods.core.operands import Conv2d, Linear, Operand


@dataclass(frozen=True)
class Explicit:
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

    def weight(self, operand: Operand) -> Tensor:
        """Return the parameter that a weight slot reads."""
        layer = self.model.get_submodule(operand.name.rpartition(".")[0])
        assert isinstance(layer, Linear | Conv2d)
        return layer.weight

    def norm_readers(self) -> list[tuple[nn.LayerNorm, tuple[Linear, ...]]]:
        """Return each normalisation with the linear layers that alone read it."""
        pairs: list[NormReaders] = self.family.norm_readers(self.model)
        return [(p.norm, tuple(r for r in p.readers if isinstance(r, Linear))) for p in pairs]

    def blocks(self) -> list[tuple[str, nn.Module]]:
        """Return the units of block-wise reconstruction, in execution order."""
        return self.family.blocks(self.model)

    def bridges(self) -> list[Bridge]:
        """Return the bridge blocks, in execution order; none where the family has no convolutions but the stem."""
        return self.family.bridges(self.model)

    def switch(self, on: bool) -> nn.Module:
        """Switch every operand on or off and return the model."""
        for operand in self.operands.values():
            operand.on = on
        return self.model

    @torch.no_grad()
    def run(self, calibration: Calibration) -> None:
        """Feed the calibration set through the model, for what the slots watch."""
        for batch in calibration.batches():
            calibration.forward(self.model, batch)


def explicit(model: nn.Module, bits: BitSpec) -> Explicit:
    """Return a copy of `model` with explicit operands; the float function is unchanged to 1e-5 (relative)."""
    family = family_of(model)
    _refuse_absent_parts(model, bits)
    net = _copy(model).eval().requires_grad_(False)
    family.fold(net)
    roles: dict[nn.Module, Role] = {family.stem(net): "stem_input"}
    roles |= dict.fromkeys(family.after_gelu(net), "gelu")
    roles |= dict.fromkeys(family.after_softmax(net), "softmax")
    _replace(net, family, bits, roles, root=True)
    operands = {}
    for name, module in net.named_modules():
        if isinstance(module, Operand):
            module.name = name
            operands[name] = module
    return Explicit(net, family, bits, operands)


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


def _replace(
    parent: nn.Module, family: Family, bits: BitSpec, roles: dict[nn.Module, Role], *, root: bool = False
) -> None:
    """Replace attention, linear layers and convolutions below `parent`; parts that the spec leaves stay as they are."""
    for name, child in parent.named_children():
        if root and bits.leaves(name):
            continue
        new = child
        if type(child) in family.attention:
            new = family.attention[type(child)](child, bits)
        elif type(child) is nn.Linear:
            new = Linear(child, bits, roles.get(child, "input"))
        elif type(child) is nn.Conv2d:
            new = Conv2d(child, bits, roles.get(child, "input"))
        if new is not child:
            new.train(child.training)
            setattr(parent, name, new)
        if not isinstance(new, Linear | Conv2d):
            _replace(new, family, bits, roles)
