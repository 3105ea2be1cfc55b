"""Second moments of what a layer reads: all that closed-form methods need of the calibration images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import note
from vitptq.methods.core.layerwise.matrices import input_rows
from vitptq.methods.core.model.openmmlab import BEHIND_PROPOSALS
from vitptq.methods.core.model.operands import Layer
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.watched_calls import watched_calls

Wanted = Literal["gram", "drift", "float_gram"]
ALL: frozenset[Wanted] = frozenset({"gram", "drift", "float_gram"})


@dataclass(frozen=True)
class Moments:
    """Means over all tokens, each (groups, n, n) in float64, n being the inputs of one output; 0 where not wanted.

    X are the inputs behind the layers that are quantised already, X~ those in the float model, on the same images.
    """

    gram: Tensor
    """X X^T."""
    drift: Tensor
    """(X~ - X) X^T: how what arrives differs from the float model's."""
    float_gram: Tensor
    """X~ X~^T."""

    def output_error(self, weight: Tensor, rounded: Tensor) -> float:
        """Return |W X~ - Q X|^2 / |W X~|^2 for W and Q (groups, outputs, inputs); all three moments are needed."""
        wanted = _energy(weight, self.float_gram, weight)
        crossed = _energy(weight, self.gram + self.drift, rounded)  # X~ X^T
        error = wanted - 2 * crossed + _energy(rounded, self.gram, rounded)
        return float(error.clamp_min(0) / wanted) if wanted > 0 else 0.0


def _energy(left: Tensor, gram: Tensor, right: Tensor) -> Tensor:
    return ((left @ gram) * right).sum()


NOTHING = Moments(*(torch.zeros(0, 0, 0) for _ in range(3)))
"""Of a layer that read nothing, or of which nothing was asked."""


class MomentSums:
    """Adds up the moments of one layer."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._rows: Counter[Wanted] = Counter()
        self._sums: dict[Wanted, Tensor] = {}

    def add_given(self, x: Tensor) -> None:
        """Take in what one call of the layer reads behind the quantised layers."""
        for rows in input_rows(self._layer, x):
            self._add("gram", rows, rows)

    def add_float(self, x: Tensor) -> None:
        """Take in what one call of the layer reads in the float model."""
        for rows in input_rows(self._layer, x):
            self._add("float_gram", rows, rows)

    def add_pair(self, x: Tensor, x_float: Tensor) -> None:
        """Take in both, of the same images."""
        for rows, float_rows in zip(input_rows(self._layer, x), input_rows(self._layer, x_float), strict=True):
            self._add("drift", float_rows - rows, rows)

    def moments(self) -> Moments:
        """Return the means."""
        if not self._sums:
            return NOTHING
        nothing = torch.zeros_like(next(iter(self._sums.values())))
        return Moments(*(self._mean(name, nothing) for name in ("gram", "drift", "float_gram")))

    def _mean(self, name: Wanted, nothing: Tensor) -> Tensor:
        return self._sums[name] / self._rows[name] if name in self._sums else nothing

    def _add(self, name: Wanted, left: Tensor, right: Tensor) -> None:
        product = (left.transpose(1, 2) @ right).double()
        self._sums[name] = self._sums[name] + product if name in self._sums else product
        self._rows[name] += left.shape[1]


def layers_in_order(net: PreparedModel, calibration: Calibration) -> dict[str, int]:
    """Return the layers with a weight slot in the order of their first call, with their calls on the first batch."""
    names = {layer: name for name, layer in net.layers.items()}
    calls: Counter[str] = Counter()
    handles = [layer.register_forward_pre_hook(lambda layer, _: calls.update([names[layer]])) for layer in names]
    try:
        with torch.no_grad():
            calibration.forward(net.model, next(iter(calibration.batches())))
    finally:
        for handle in handles:
            handle.remove()
    return dict(calls)


@torch.no_grad()
def layer_moments(
    net: PreparedModel, twin: PreparedModel, name: str, calls: int, calibration: Calibration, wanted: frozenset[Wanted]
) -> Moments:
    """Return the moments of one layer over the calibration set: `NOTHING` where it read nothing, or none is wanted.

    `net` is quantised as far as it is, `twin` in float. What a detector's last heads read belongs to proposals, which
    are others in each of the two, so that there X~ counts as equal to X.
    """
    sums = MomentSums(net.layers[name])
    paired = "drift" in wanted and not name.startswith(f"{BEHIND_PROPOSALS}.")
    if "drift" in wanted and not paired:
        note(f"{BEHIND_PROPOSALS}: its inputs belong to proposals, so the error that arrives there is not corrected")
    for batch in calibration.batches() if calls and wanted else ():
        given = inputs_of(net, name, calls, calibration, batch) if paired or "gram" in wanted else []
        plain = inputs_of(twin, name, calls, calibration, batch) if paired or "float_gram" in wanted else []
        for x in given if "gram" in wanted else ():
            sums.add_given(x)
        for x in plain if "float_gram" in wanted else ():
            sums.add_float(x)
        for x, x_float in zip(given, plain, strict=True) if paired else ():
            sums.add_pair(x, x_float)
    return sums.moments()


def inputs_of(net: PreparedModel, name: str, calls: int, calibration: Calibration, batch: Any) -> list[Tensor]:
    """Return what the calls of a layer read on one batch, on its grid where that is on; nothing behind it runs."""
    seen: list[Tensor] = []

    def see(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        assert isinstance(module, Layer)
        if args[0].numel():  # a detector without proposals runs its heads on nothing
            seen.append(module.input_operand(args[0]))

    with watched_calls({net.layers[name]: calls}, see, entering=True):
        calibration.forward(net.model, batch)
    return seen
