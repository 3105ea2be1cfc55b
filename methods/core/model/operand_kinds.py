"""Operands by kind: an ablation that exchanges the grids of one kind of operand names it like this."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vitptq.bench.bits import Role
from vitptq.methods.core.model.prepare import PreparedModel

Kind = Literal["layer_norm"] | Role
"""The role of an operand, but for what a LayerNorm puts out: that is its own kind, not an "input"."""


def operand_kinds(net: PreparedModel) -> dict[str, Kind]:
    """Return the kind of every operand by name."""
    behind = {reader.input_operand.name for _, readers in net.norm_readers() for reader in readers}
    return {name: "layer_norm" if name in behind else operand.role for name, operand in net.operands.items()}


def of_kinds(net: PreparedModel, kinds: tuple[Kind, ...]) -> PreparedModel:
    """Return the same model, with the operands of some kinds alone in reach."""
    known = operand_kinds(net)
    return replace(net, operands={name: slot for name, slot in net.operands.items() if known[name] in kinds})
