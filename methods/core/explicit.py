"""Make a model's operands explicit: every product named, a slot in front of each side, nothing quantised yet."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from bench.bits import BitSpec, Role
from methods.core.families import Family, NormReaders, family_of
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

    def switch(self, on: bool) -> nn.Module:
        """Switch every operand on or off and return the model."""
        for operand in self.operands.values():
            operand.on = on
        return self.model


def explicit(model: nn.Module, bits: BitSpec) -> Explicit:
    """Return a copy of `model` with explicit operands; the float function is unchanged to 1e-5 (relative)."""
    family = family_of(model)
    net = copy.deepcopy(model).eval().requires_grad_(False)
    roles: dict[nn.Module, Role] = {family.stem(net): "stem_input"}
    roles |= dict.fromkeys(family.after_gelu(net), "gelu")
    _replace(net, family, bits, roles)
    operands = {}
    for name, module in net.named_modules():
        if isinstance(module, Operand):
            module.name = name
            operands[name] = module
    return Explicit(net, family, bits, operands)


def _replace(parent: nn.Module, family: Family, bits: BitSpec, roles: dict[nn.Module, Role]) -> None:
    """Replace attention, linear layers and convolutions below `parent` by their explicit forms."""
    for name, child in parent.named_children():
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
