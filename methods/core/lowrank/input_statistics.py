"""What components are chosen by: mean inputs and second moments of layers in the float model, from one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import report
from vitptq.methods.core.lowrank.factored import as_linear
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel


class InputSums:
    """Adds up what a layer reads, over all tokens, in float64."""

    def __init__(self, weight: Tensor, *, second: bool) -> None:
        self._weight, self._second = weight, second
        self._sum: Tensor | None = None
        self._moment: Tensor | None = None
        self.rows = 0
        self.skipped = 0
        """Rows whose output is 0: their normalised error is not defined."""

    def add(self, x: Tensor) -> None:
        """Take in (..., inputs)."""
        rows = x.reshape(-1, x.shape[-1])
        self.rows += len(rows)
        total = rows.sum(0, dtype=torch.float64)
        self._sum = total if self._sum is None else self._sum + total
        if self._second:
            weights = output_weights(rows, self._weight)
            self.skipped += int((weights == 0).sum())
            product = (rows * weights[:, None]).T.double() @ rows.double()
            self._moment = product if self._moment is None else self._moment + product

    @property
    def mean(self) -> Tensor:
        """Return the mean input, (inputs,)."""
        assert self._sum is not None, "no input was seen"
        return self._sum / self.rows

    @property
    def moment(self) -> Tensor:
        """Return C = mean x x^T / |W x|^2, (inputs, inputs), over the rows that are not skipped."""
        assert self._moment is not None, "no input was seen"
        return self._moment / max(1, self.rows - self.skipped)


def output_weights(rows: Tensor, weight: Tensor) -> Tensor:
    """Return 1 / |W x|^2 of each row, 0 where the output is 0."""
    energy = (rows @ weight.T).square().sum(1)
    return torch.where(energy > 0, energy.reciprocal(), 0)


@torch.no_grad()
def input_sums(
    net: PreparedModel, calibration: Calibration, names: Sequence[str], *, second: bool
) -> Mapping[str, InputSums]:
    """Return the sums of the named layers of a float model; `second` asks for second moments, too."""
    sums = {name: InputSums(as_linear(net.model, name).weight, second=second) for name in names}
    slots = {as_linear(net.model, name).input_operand.name: name for name in names}

    def watch(operand: Operand, x: Tensor) -> None:
        sums[slots[operand.name]].add(x)

    net.switch(False)
    batches = list(calibration.batches())
    for done, batch in enumerate(batches):
        report("inputs of layers", done, len(batches))
        with watching({slot: net.operands[slot] for slot in slots}, watch):
            calibration.forward(net.model, batch)
    return sums
