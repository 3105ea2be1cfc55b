"""Widths under an average in a model in full form, where tensors are stored that no product reads as they are."""

from __future__ import annotations

from dataclasses import replace

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.full_model import Attention, Point
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.search.bit_allocation import AllotBy, allot_bits


def allot_operand_bits(net: PreparedModel, calibration: Calibration, by: AllotBy, *, reach: int) -> None:
    """Set the width of what products read, as `allot_bits` does; what is stored in front of that is no narrower.

    Queries, keys and values are stored as one tensor, in as many bits as the widest of them has. All else that is
    stored keeps the nominal width, and scores their own.
    """
    operands = {name: slot for name, slot in net.operands.items() if not isinstance(slot, Point)}
    allot_bits(replace(net, operands=operands), calibration, by, reach=reach)
    for attention in net.model.modules():
        if isinstance(attention, Attention):
            attention.qkv_out.bits = max(slot.bits for slot in parts_of_qkv(attention))


def parts_of_qkv(attention: Attention) -> list[Operand]:
    """Return the slots of queries, keys and values."""
    return [m for m in attention.modules() if isinstance(m, Operand) and m.role in ("query", "key", "value")]
