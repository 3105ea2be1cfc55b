"""What a bit spec forbids, from an audit's figures alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitptq.bench.bits import BitSpec
from vitptq.bench.results.audit_rules import (
    average_violations,
    balance,
    bit_operations,
    branch_macs,
    operand_violations,
    other_products,
    product_differences,
    product_violations,
    quantised_macs,
    too_many_parameters,
)
from vitptq.bench.results.record import Audit, OperandAudit

W4A4 = BitSpec(4, 4)
LOW_RANK = BitSpec(32, 32, removed=60)


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
    assert operand_violations(replace(product(10)[0], **change), W4A4) == words


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


MIXED = BitSpec(4, 4, mixed=True)


def mixed(module: str, weight: int, read: int, values: tuple[int, int]) -> list[OperandAudit]:
    """Return a layer's input and weight at these bits, with these numbers of values."""
    pairs = zip(product(10, module), (read, weight), values, strict=True)
    return [replace(side, bits=b, grid=2**b, values=n) for side, b, n in pairs]


def test_an_average_is_taken_over_values_and_a_weight_that_is_read_twice_counts_once() -> None:
    fine, coarse = mixed("fc1", 6, 5, (100, 50)), mixed("fc2", 2, 3, (100, 50))
    assert average_violations([*fine, *coarse], MIXED) == []
    assert average_violations([*fine, *fine, *coarse], MIXED) == [
        "the activations have 4.333 bits on average, W4A4+mixed allows 4"
    ]
    assert average_violations(mixed("fc1", 5, 4, (7, 7)), MIXED) == [
        "the weights have 5.000 bits on average, W4A4+mixed allows 4"
    ]


def test_the_image_takes_no_part_in_the_average() -> None:
    read, weight = mixed("stem", 4, 8, (10, 10))
    assert average_violations([replace(read, role="stem_input"), weight], MIXED) == []


def test_operands_of_unknown_size_prove_no_average() -> None:
    assert len(average_violations(mixed("fc", 4, 4, (0, 0)), MIXED)) == 2


def test_each_operand_is_held_to_its_own_width_and_to_the_widest_allowed() -> None:
    wide = mixed("fc", 10, 7, (1, 1))[1]
    assert operand_violations(wide, MIXED) == []
    assert operand_violations(replace(wide, grid=1025), MIXED) == [
        "fc: weight of linear has a grid of 1025 values, 10 bits allow 1024"
    ]
    assert operand_violations(replace(wide, bits=11, grid=4), MIXED) == [
        "fc: weight of linear has 11 bits, W4A4+mixed allows 10"
    ]


def test_a_uniform_width_is_no_average() -> None:
    assert average_violations(mixed("fc", 5, 5, (1, 1)), W4A4) == []


def of(*operands: OperandAudit) -> Audit:
    return Audit(operands=operands, macs=100, quantised_macs=0, float_operands=(), violations=())


def test_two_smaller_products_in_place_of_one_are_low_rank_factors_where_the_spec_has_them() -> None:
    reference = of(*product(100, "blocks.0.fc"), *product(100, "head"))
    here = [*product(20, "blocks.0.fc.down"), *product(30, "blocks.0.fc.up"), *product(100, "head")]
    assert product_differences(here, reference, LOW_RANK) == []
    assert "another model was measured" in product_differences(here, reference, W4A4)[0]


@pytest.mark.parametrize(
    ("here", "words"),
    [
        ([*product(60, "fc.down"), *product(50, "fc.up")], "is in 2 products here, not in two smaller"),
        ([*product(10, "fc.a"), *product(10, "fc.b"), *product(10, "fc.c")], "is in 3 products here"),
        (product(40, "fc.down"), "is in 1 products here"),
        ([*product(20, "other.down"), *product(20, "other.up")], "another model was measured"),
        ([*product(100), *product(7, "extra")], "another model was measured"),
    ],
)
def test_anything_else_in_place_of_a_product_is_named(here: list[OperandAudit], words: str) -> None:
    assert words in product_differences(here, of(*product(100)), LOW_RANK)[0]


def test_parameters_above_the_budget_are_named() -> None:
    assert too_many_parameters({"body": 40}, {"body": 100}, LOW_RANK) == []
    assert too_many_parameters({"body": 41}, {"body": 100}, LOW_RANK) == [
        "41 parameters of 100: W32A32+lowrank60 demands 60 % fewer"
    ]
    assert too_many_parameters({"body": 100}, {"body": 100}, W4A4) == []


def test_parameters_of_parts_that_stay_as_they_are_do_not_count() -> None:
    whole = {"body": 100, "heads": 50}
    assert too_many_parameters({"body": 40, "heads": 50}, whole, LOW_RANK) == []
    with_heads = BitSpec(32, 32, ("heads",), removed=60)
    assert too_many_parameters({"body": 40, "heads": 50}, whole, with_heads)


def with_float_maxima(macs: int, group: int) -> list[OperandAudit]:
    left, right = product(macs)
    return [replace(left, grid=17, float_values=1, group=group), right]


def test_one_float_value_of_a_group_may_stand_beside_the_grid() -> None:
    left, _ = with_float_maxima(10, 5)
    assert operand_violations(left, W4A4) == []
    assert operand_violations(replace(left, grid=18), W4A4) != []
    more = replace(left, grid=18, float_values=2)
    assert operand_violations(more, W4A4) == ["fc: input of linear keeps 2 values of each group in float, allowed is 1"]


def test_what_is_multiplied_by_a_value_in_float_counts_as_float() -> None:
    operands = [*with_float_maxima(1000, 20), *product(500)]
    assert quantised_macs(operands, W4A4) == 950 + 500
    audited = Audit(operands=tuple(operands), macs=1500, quantised_macs=1450, float_operands=(), violations=())
    assert bit_operations(audited) == 950 * 16 + 50 * 32 * 4 + 500 * 16


BRANCHED = BitSpec(4, 4, branch=True)


def side_branch(macs: int) -> list[OperandAudit]:
    changed = {"bits": None, "grid": 0, "branch": True, "module": "block.side_branch"}
    return [replace(side, **changed) for side in product(macs)]


def float_model(*macs: int) -> Audit:
    operands = tuple(side for each in macs for side in product(each))
    return Audit(operands=operands, macs=sum(macs), quantised_macs=0, float_operands=(), violations=())


def test_side_branches_are_allowed_where_the_spec_names_them_and_nowhere_else() -> None:
    operands, reference = [*product(1000), *side_branch(80)], float_model(1000)
    assert product_violations(operands, BRANCHED, 1080, reference) == []
    found = "\n".join(product_violations(operands, W4A4, 1080, reference))
    assert "stayed float" in found and "another model was measured" in found


def test_a_product_of_the_float_model_cannot_hide_in_a_side_branch() -> None:
    operands = [*product(1000), *side_branch(80)]  # the 80 should be on a grid
    found = product_violations(operands, BRANCHED, 1080, float_model(1000, 80))
    assert any("80 multiply-accumulates in the float model, not in the quantised one" in text for text in found)


def test_a_second_model_is_no_side_branch() -> None:
    found = product_violations([*product(1000), *side_branch(300)], BRANCHED, 1300, float_model(1000))
    assert found == ["side branches have 30% of the multiply-accumulates, allowed is 25%"]


def test_products_that_nobody_saw_are_named_beside_branches_too() -> None:
    found = product_violations([*product(900), *side_branch(80)], BRANCHED, 1080, float_model(900))
    assert found[0].startswith("10.0% of the multiply-accumulates run where the audit cannot see them")


def test_side_branches_cost_16_bits_and_are_no_quantised_work() -> None:
    operands = (*product(1000), *side_branch(80))
    audited = Audit(operands=operands, macs=1080, quantised_macs=1000, float_operands=(), violations=())
    assert bit_operations(audited) == 1000 * 16 + 80 * 256
    assert quantised_macs(operands, BRANCHED) == 1000
    assert branch_macs(operands) == 80
