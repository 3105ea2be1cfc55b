"""What a bit spec forbids, as a function of an audit's figures: the audit applies it, and `verify` applies it anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from vitptq.bench.bits import AVERAGE_SLACK, BRANCH_BITS, FLOAT_BITS, BitSpec, Role
from vitptq.bench.results.record import Audit, OperandAudit

BODY = "body"
"""What of a model is neither neck nor heads."""
FACTORS_OF_A_WEIGHT = 2
LINEAR = "linear"
MOST_FLOAT_VALUES = 1
"""Of each group of an operand, such as the largest probability of a row."""
MOST_BRANCH_MACS = 0.25
"""Of the float model's multiply-accumulates, in side branches: a second model would be no side branch."""
MORE_MACS = 1.01
"""Two products of few bits can make one of many, so a model must not do much more than the float one."""


def pairs(operands: Sequence[OperandAudit]) -> Iterator[tuple[OperandAudit, OperandAudit]]:
    """Yield the two sides of every product."""
    return zip(operands[::2], operands[1::2], strict=True)


def product_violations(
    operands: Sequence[OperandAudit], bits: BitSpec, total: int, reference: Audit | None
) -> list[str]:
    """Say what the bit spec forbids about a model's products; `total` are its multiply-accumulates.

    `reference` is the float model's audit. Side branches are apart, where the spec allows them.
    """
    branches = [side for side in operands if side.branch and bits.branch]
    own = [side for side in operands if not (side.branch and bits.branch)]
    added = sum(left.macs for left, _ in pairs(branches))
    seen = sum(left.macs for left, _ in pairs(own))
    found = [violation for side in own for violation in operand_violations(side, bits)]
    found += average_violations(own, bits)
    found += balance(total - added, seen, reference.macs if reference else total - added)
    if reference:
        found += product_differences(own, reference, bits)
    if added > MOST_BRANCH_MACS * (total - added):
        share = added / (total - added)
        found.append(f"side branches have {share:.0%} of the multiply-accumulates, allowed is {MOST_BRANCH_MACS:.0%}")
    return found


def branch_macs(operands: Sequence[OperandAudit]) -> int:
    """Return the multiply-accumulates in side branches."""
    return sum(left.macs for left, _ in pairs(operands) if left.branch)


def operand_violations(side: OperandAudit, bits: BitSpec) -> list[str]:
    """Say what the bit spec forbids about one operand."""
    where = f"{side.module or 'the model'}: {side.role} of {side.op}"
    role: Role = side.role if side.role in ("weight", "stem_input") else "input"  # type: ignore[assignment]
    if side.bits is None:
        allowed = bits.width(role) == FLOAT_BITS or bits.leaves(side.module)
        return [] if allowed else [f"{where} stayed float"]
    found = []
    if side.bits > bits.most(role):
        found.append(f"{where} has {side.bits} bits, {bits} allows {bits.most(role)}")
    if side.float_values > MOST_FLOAT_VALUES:
        found.append(f"{where} keeps {side.float_values} values of each group in float, allowed is {MOST_FLOAT_VALUES}")
    if side.grid > 2**side.bits + side.float_values:
        found.append(f"{where} has a grid of {side.grid} values, {side.bits} bits allow {2**side.bits}")
    if side.off_grid:
        found.append(f"{where} has values off the grid of its quantizer")
    return found


def average_violations(operands: Sequence[OperandAudit], bits: BitSpec) -> list[str]:
    """Say which average over the operands' values exceeds a bit spec that is one; a weight read twice counts once."""
    if not bits.mixed:
        return []
    counted = [side for side in operands if side.bits is not None and side.role != "stem_input"]
    weights = {side.module: side for side in counted if side.role == "weight"}
    found = []
    for what, sides, allowed in (
        ("weights", list(weights.values()), bits.weights),
        ("activations", [side for side in counted if side.role != "weight"], bits.activations),
    ):
        values = sum(side.values for side in sides)
        if any(not side.values for side in sides):
            found.append(f"{bits} is an average, and the audit does not say how many values the {what} have")
        elif sides and sum(side.values * (side.bits or 0) for side in sides) > (allowed + AVERAGE_SLACK) * values:
            average = sum(side.values * (side.bits or 0) for side in sides) / values
            found.append(f"the {what} have {average:.3f} bits on average, {bits} allows {allowed}")
    return found


def balance(total: int, seen: int, float_macs: int) -> list[str]:
    """Compare the multiply-accumulates that were seen with all there are, and with the float model's."""
    found = []
    if total > seen:
        share = (total - seen) / total
        found.append(
            f"{share:.1%} of the multiply-accumulates run where the audit cannot see them; they count as float"
        )
    if seen > MORE_MACS * float_macs:
        found.append(f"{seen / float_macs:.2f} times the float model's multiply-accumulates")
    return found


def uncounted(module: str, name: str) -> str:
    """Say that an operation may hide a product."""
    return f"{module or 'the model'}: {name} multiplies where the audit cannot count it; it counts as float"


def product_differences(operands: Sequence[OperandAudit], reference: Audit, bits: BitSpec) -> list[str]:
    """Compare the products with those of the float model's audit: the same ones, but for weights in factors."""
    if not bits.removed:
        return other_products(operands, reference.operands)
    found, factors, factored = _factors([left for left, _ in pairs(operands)], reference.operands)
    here, there = (
        [side for pair in pairs(sides) if pair[0] not in without for side in pair]
        for sides, without in ((operands, factors), (reference.operands, factored))
    )
    return [*found, *other_products(here, there)]


def _factors(
    products: Sequence[OperandAudit], float_operands: Sequence[OperandAudit]
) -> tuple[list[str], list[OperandAudit], list[OperandAudit]]:
    """Return what is wrong with weights in factors, the products of factors, and the float products they stand for.

    Two linear layers directly inside what was one, with fewer multiply-accumulates together, are its factors.
    """
    inside = _by_place([left for left in products if left.op == LINEAR], parent=True)
    whole = _by_place([left for left, _ in pairs(float_operands) if left.op == LINEAR])
    found, factors, factored = [], [], []
    for module in (module for module in whole if module in inside):
        parts, product = inside[module], whole[module]
        factors += parts
        factored += product
        places = {part.module for part in parts}
        if len(places) != FACTORS_OF_A_WEIGHT or sum(p.macs for p in parts) >= sum(p.macs for p in product):
            found.append(f"{_listed(product)} is in {len(places)} products here, not in two smaller low-rank factors")
    return found, factors, factored


def _by_place(products: Sequence[OperandAudit], *, parent: bool = False) -> dict[str, list[OperandAudit]]:
    """Return products by their module, or by the module that it is in."""
    places: dict[str, list[OperandAudit]] = {}
    for product in products:
        places.setdefault(product.module.rpartition(".")[0] if parent else product.module, []).append(product)
    return places


def too_many_parameters(parameters: Mapping[str, int], float_parameters: Mapping[str, int], bits: BitSpec) -> list[str]:
    """Compare the parameters of a model in factors with the budget: those of the parts that the spec does not leave."""
    if not bits.removed or not float_parameters:
        return []
    kept, there = (
        sum(n for part, n in counts.items() if part == BODY or part in bits.parts)
        for counts in (parameters, float_parameters)
    )
    if 100 * kept <= (100 - bits.removed) * there:
        return []
    return [f"{kept} parameters of {there}: {bits} demands {bits.removed} % fewer"]


def other_products(operands: Sequence[OperandAudit], float_operands: Sequence[OperandAudit]) -> list[str]:
    """Compare the products with the float model's, by their multiply-accumulates: the same model has the same ones."""
    here, there = ([left for left, _ in pairs(sides)] for sides in (operands, float_operands))
    added = _without(here, there)
    missing = _without(there, here)
    found = []
    if added:
        found.append(f"{_listed(added)} in the quantised model, not in the float one: another model was measured")
    if missing:
        found.append(f"{_listed(missing)} in the float model, not in the quantised one: another model was measured")
    return found


def _without(products: Sequence[OperandAudit], others: Sequence[OperandAudit]) -> list[OperandAudit]:
    """Return the products that have no partner of as many multiply-accumulates among the others."""
    left = Counter(other.macs for other in others)
    kept = []
    for product in products:
        if left[product.macs]:
            left[product.macs] -= 1
        else:
            kept.append(product)
    return kept


def _listed(products: Sequence[OperandAudit]) -> str:
    first = products[0]
    more = f" and {len(products) - 1} more" if len(products) > 1 else ""
    return f"{first.module or 'the model'}: {first.op} of {first.macs} multiply-accumulates{more}"


def quantised_macs(operands: Sequence[OperandAudit], bits: BitSpec) -> int:
    """Return the multiply-accumulates whose two operands were quantised as nominal.

    A part that is left in float by convention was not, nor were those that read a value which its quantizer kept.
    """
    return sum(pair[0].macs - float_macs(pair) for pair in pairs(operands) if _quantised(pair, bits))


def float_macs(pair: Sequence[OperandAudit]) -> int:
    """Return the multiply-accumulates of a product that read values which a quantizer kept in float."""
    return min(pair[0].macs, sum(_share(side, side.macs) for side in pair))


def _share(side: OperandAudit, of: int) -> int:
    """Return the part of a number that falls to the values of an operand that stay in float."""
    return of * side.float_values // side.group if side.group else 0


def bit_operations(audited: Audit) -> int:
    """Return the sum over products of MACs x bits x bits, for one image; what was not seen counts at 32 bits."""
    products = list(pairs(audited.operands))
    seen = sum(left.macs for left, _ in products)
    return sum(_bit_operations(*pair) for pair in products) + (audited.macs - seen) * FLOAT_BITS**2


def _bit_operations(left: OperandAudit, right: OperandAudit) -> int:
    """Return MACs x bits x bits of a product; those that read a value kept in float count at 32 bits on that side."""
    macs, first, second = left.macs, _cost_bits(left), _cost_bits(right)
    more_of_first = _share(left, macs) * (FLOAT_BITS - first) * second
    more_of_second = _share(right, macs) * (FLOAT_BITS - second) * first
    return macs * first * second + more_of_first + more_of_second


def _cost_bits(side: OperandAudit) -> int:
    return side.bits or (BRANCH_BITS if side.branch else FLOAT_BITS)


def _quantised(pair: tuple[OperandAudit, OperandAudit], bits: BitSpec) -> bool:
    left_float = any(side.bits is None and bits.leaves(side.module) for side in pair)
    return not left_float and not any(operand_violations(side, bits) for side in pair)
