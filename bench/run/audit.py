"""The audit: run the quantised model once and look at both sides of every product.

Each operand must be what a quantizer put out, unchanged since, with all values on that quantizer's grid, and the grid
must have at most 2^bits values. torch's own counter says how many multiply-accumulates there are, so a product that the
audit does not see counts as float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from vitptq.bench.bits import BRANCH, BitSpec, part_of
from vitptq.bench.contracts.side_branch import branch_names
from vitptq.bench.results import audit_rules
from vitptq.bench.results.record import Audit, OperandAudit
from vitptq.bench.run import on_grid, products
from vitptq.bench.run.products import Output, Recording, Side

Forward = Callable[[nn.Module, Any], Any]


def audit(
    model: nn.Module,
    bits: BitSpec,
    example: Any,
    forward: Forward,
    *,
    float_audit: Audit | None = None,
    dynamic: bool = False,
) -> Audit:
    """Run `forward(model, example)` once and report on every operand, against what `bits` demands.

    `example` is a batch of one image (a tensor, or whatever the task feeds to the model). `float_audit` is that of the
    float model: products that are gone from the quantised one were moved to where the audit does not look, and others
    are another model's. A `dynamic` method finds its ranges while the model runs.
    """
    with products.recorded(model, example, dynamic=dynamic) as recording:
        forward(model, example)
    return Inspector(dynamic=dynamic).report(recording, bits, float_audit, parameter_counts(model))


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Return how many parameters the model has by part: neck, heads, side branches, and all else as the body."""
    counts = {audit_rules.BODY: 0}
    branches = branch_names(model)
    for name, parameter in model.named_parameters():
        part = BRANCH if name.rpartition(".")[0] in branches else part_of(name) or audit_rules.BODY
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


class Inspector:
    """Looks at what recordings hold; what it has seen already and is still the same tensor, it does not look at again.

    So the weights that an evaluation keeps are inspected once.
    """

    def __init__(self, *, dynamic: bool = False) -> None:
        self.dynamic = dynamic
        self.sample: int | None = None
        """How many values of a tensor to look at; None: all."""
        self._seen: Any = WeakTensorKeyDictionary()

    def report(
        self,
        recording: Recording,
        bits: BitSpec,
        float_audit: Audit | None,
        parameters: Mapping[str, int],
    ) -> Audit:
        """Return the audit of a recording; `parameters` are the model's, by part.

        Only after it: inspecting under the counter would send thousands of small operations through it.
        """
        sides = [self._operand(side, sizes=bits.mixed) for pair in recording.products for side in pair]
        seen = sum(left.macs for left, _ in audit_rules.pairs(sides))
        least = float_audit.macs if float_audit and not bits.removed else 0  # factors multiply less
        total = max(recording.counter.macs, seen, least + audit_rules.branch_macs(sides))
        found: list[str] = []
        if not bits.is_float:
            found += audit_rules.product_violations(sides, bits, total, float_audit)
            found += [audit_rules.uncounted(module, name) for module, name in recording.counter.uncounted]
            found += audit_rules.too_many_parameters(parameters, float_audit.parameters, bits) if float_audit else []
        return Audit(
            operands=tuple(sides),
            macs=total,
            quantised_macs=audit_rules.quantised_macs(sides, bits),
            float_operands=tuple(f"{side.module}: {side.role}" for side in sides if side.bits is None),
            violations=tuple(dict.fromkeys(found)),
            dynamic=self.dynamic,
            parameters=dict(parameters),
        )

    def has_seen(self, tensor: Tensor) -> bool:
        """Tell whether the tensor was looked at and did not change since."""
        version, _ = self._seen.get(tensor, (None, None))
        return bool(version == tensor._version)

    def _operand(self, side: Side, *, sizes: bool) -> OperandAudit:
        """Inspect the values of one side; `sizes` tells how many there are."""
        values = side.read.numel() if sizes and side.read is not None else 0
        where = OperandAudit(
            module=side.module, op=side.op, role=side.role, bits=None, macs=side.macs, values=values, branch=side.branch
        )
        if side.output is None or side.read is None:
            return where
        quantizer = side.output.quantizer
        found = self._levels(side.output)
        # what the product reads, not only what the quantizer returned: both may share one storage with other values
        off_grid = found.off_grid or not on_grid.covers(side.output.tensor, side.read)
        return replace(
            where, bits=quantizer.bits, granularity=quantizer.granularity, quantizer=type(quantizer).__name__,
            levels=found.used, grid=found.available, off_grid=off_grid, **_kept_in_float(side.output),
        )  # fmt: skip

    def _levels(self, output: Output) -> on_grid.Levels:
        tensor = output.tensor
        version, found = self._seen.get(tensor, (None, None))
        if found is None or version != tensor._version:
            grid = output.quantizer.grid() if output.grid is None else output.grid
            found = on_grid.levels(tensor, output.quantizer, grid, dynamic=self.dynamic, sample=self.sample)
            self._seen[tensor] = (tensor._version, found)
        levels: on_grid.Levels = found
        return levels


def _kept_in_float(output: Output) -> dict[str, Any]:
    """Return how many values of each group a quantizer leaves in float, and how many a group has."""
    kept = output.quantizer.float_values
    if not kept:
        return {}
    return {"float_values": kept, "group": output.quantizer.groups(output.tensor).shape[-1]}
