"""What the audit saw, as the page of a run shows it: by product, by width, by role."""

from __future__ import annotations

from dataclasses import dataclass

from vitptq.bench.board.rows import Row
from vitptq.bench.results.record import OperandAudit, Record


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the network with the operands that the audit saw."""

    module: str
    op: str
    operands: tuple[OperandAudit, ...]

    @property
    def macs(self) -> int:
        """Return its multiply-accumulates for one image."""
        return max(operand.macs for operand in self.operands)

    @property
    def widths(self) -> str:
        """Name the widths of its operands, for example "4 × 8 bit"."""
        bits = ["float" if o.bits is None else str(o.bits) for o in self.operands]
        return " × ".join(bits) + (" bit" if bits != ["float"] * len(bits) else "")


def products(record: Record) -> tuple[Product, ...]:
    """Return the products of a record's audit in the order of the network, each with its operands."""
    found: dict[tuple[str, str], list[OperandAudit]] = {}
    for operand in record.audit.operands if record.audit else ():
        found.setdefault((operand.module, operand.op), []).append(operand)
    return tuple(Product(module, op, tuple(operands)) for (module, op), operands in found.items())


def macs_by_width(record: Record) -> tuple[tuple[str, float], ...]:
    """Return the share of multiply-accumulates, in percent, by the widths of the two operands, largest first."""
    sums: dict[str, int] = {}
    for product in products(record):
        sums[product.widths] = sums.get(product.widths, 0) + product.macs
    total = sum(sums.values())
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return tuple((widths, 100 * macs / total) for widths, macs in ordered) if total else ()


def bit_map(record: Record) -> tuple[tuple[str, tuple[OperandAudit, ...]], ...]:
    """Return the audited operands by role, roles and operands in the order of the network."""
    roles: dict[str, list[OperandAudit]] = {}
    for operand in record.audit.operands if record.audit else ():
        roles.setdefault(operand.role, []).append(operand)
    return tuple((role, tuple(operands)) for role, operands in roles.items())


def same_map(row: Row) -> bool:
    """Tell whether the counted seeds quantised the same operands in the same way."""
    return len({tuple(_map_entry(o) for o in r.audit.operands) for r in row.counted if r.audit}) <= 1


def _map_entry(operand: OperandAudit) -> tuple[object, ...]:
    return operand.module, operand.op, operand.role, operand.bits, operand.granularity, operand.quantizer, operand.grid
