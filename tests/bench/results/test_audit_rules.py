"""What a bit spec forbids, from an audit's figures alone."""

from __future__ import annotations

import pytest

from vitptq.bench.bits import BitSpec
from vitptq.bench.results.audit_rules import balance, operand_violations, other_products
from vitptq.bench.results.record import OperandAudit

W4A4 = BitSpec(4, 4)


def product(macs: int, module: str = "fc") -> list[OperandAudit]:
    return [
        OperandAudit(module=module, op="linear", role=role, bits=4, grid=16, macs=macs) for role in ("input", "weight")
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": None}, ["fc: input of linear stayed float"]),
        ({"bits": 8, "grid": 256}, ["fc: input of linear has 8 bits, W4A4 allows 4"]),
        ({"grid": 17}, ["fc: input of linear has a grid of 17 values, 4 bits allow 16"]),
        ({"off_grid": True}, ["fc: input of linear has values off the grid of its quantizer"]),
        ({}, []),
    ],
)
def test_operand_outside_the_bit_spec_is_named(change: dict[str, object], words: list[str]) -> None:
    assert operand_violations(product(10)[0].model_copy(update=change), W4A4) == words


def test_more_or_fewer_multiply_accumulates_are_named() -> None:
    assert balance(100, 100, 100) == []
    assert balance(100, 75, 100)[0].startswith("25.0% of the multiply-accumulates")
    assert balance(200, 200, 100) == ["2.00 times the float model's multiply-accumulates"]


def test_products_of_another_model_are_named_on_both_sides() -> None:
    here, there = [*product(10), *product(30, "other")], [*product(10), *product(20)]
    assert other_products(here, here) == []
    assert other_products(here, there) == [
        "other: linear of 30 multiply-accumulates in the quantised model, not in the float one: "
        "another model was measured",
        "fc: linear of 20 multiply-accumulates in the float model, not in the quantised one: "
        "another model was measured",
    ]
