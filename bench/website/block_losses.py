"""Geometry of the loss of each reconstructed block, before and after its training, as a method reports it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from vitptq.bench.contracts.reporting import MethodTable
from vitptq.bench.results.record import Record
from vitptq.bench.website.charts import place, shorten

LEFT, RIGHT, TOP, LINE, BOTTOM = 158.0, 346.0, 12.0, 17.0, 22.0


@dataclass(frozen=True, slots=True)
class BlockLoss:
    """One block: its losses and where they are drawn."""

    label: str
    before: float
    after: float
    x_before: float
    x_after: float
    y: float


@dataclass(frozen=True, slots=True)
class LossCurve:
    """One loss over the blocks of a model in the order of their training, on a logarithmic scale."""

    name: str
    height: float
    blocks: tuple[BlockLoss, ...]
    ticks: tuple[tuple[float, str], ...]
    path_before: str
    path_after: str


def loss_curves(record: Record) -> tuple[LossCurve, ...]:
    """Return a curve for each loss of each table of units with losses before and after; none for other tables."""
    tables = sorted(record.details.method.tables.items())
    return tuple(curve for name, table in tables for curve in _curves(name, table))


def _curves(name: str, table: MethodTable) -> list[LossCurve]:
    rows = [row for row in table.rows if isinstance(row.get("before"), dict) and isinstance(row.get("after"), dict)]
    terms = dict.fromkeys(term for row in rows for term in _numbers(row["before"]))
    found = []
    for term in terms:
        losses = [
            (str(row.get("unit", "")), _numbers(row["before"]).get(term), _numbers(row["after"]).get(term))
            for row in rows
        ]
        known = [(unit, before, after) for unit, before, after in losses if before and after and min(before, after) > 0]
        if len(known) > 1:
            found.append(_curve(f"{name}: {term}", known))
    return found


def _numbers(values: JsonValue) -> Mapping[str, float]:
    if not isinstance(values, dict):
        return {}
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def _curve(name: str, losses: list[tuple[str, float, float]]) -> LossCurve:
    exponents = [math.log10(value) for _, before, after in losses for value in (before, after)]
    low, high = math.floor(min(exponents)), math.ceil(max(exponents))
    high = max(high, low + 1)

    def x(value: float) -> float:
        return place(math.log10(value), low, high, LEFT, RIGHT)

    blocks = tuple(
        BlockLoss(shorten(unit, 20), before, after, x(before), x(after), TOP + LINE * (line + 0.5))
        for line, (unit, before, after) in enumerate(losses)
    )
    step = math.ceil((high - low) / 5)
    return LossCurve(
        name=name,
        height=TOP + LINE * len(blocks) + BOTTOM,
        blocks=blocks,
        ticks=tuple((x(10.0**power), f"1e{power}") for power in range(low, high + 1, step)),
        path_before="M" + "L".join(f"{b.x_before:.1f} {b.y:.1f}" for b in blocks),
        path_after="M" + "L".join(f"{b.x_after:.1f} {b.y:.1f}" for b in blocks),
    )
