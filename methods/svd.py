"""Plain SVD: what activation-aware compression is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.lowrank.components import Components, plain
from vitptq.methods.core.lowrank.factored import as_linear
from vitptq.methods.core.lowrank.low_rank_method import LowRankMethod
from vitptq.methods.core.model.prepare import PreparedModel


@dataclass(frozen=True)
class SVD(LowRankMethod):
    """Keep the largest singular values of each weight; every layer keeps the same share of its break-even rank.

    No image decides anything but the ranges of quantised activations. `allotment = "greedy"` chooses the ranks by
    s^2 / |W|^2 per parameter over all layers.
    """

    name = "svd"
    title = "SVD"
    fidelity = "reference"

    allotment: Literal["greedy", "uniform"] = "uniform"

    def components(self, net: PreparedModel, calibration: Calibration, names: list[str]) -> Mapping[str, Components]:
        """Return the singular components."""
        return {name: plain(as_linear(net.model, name).weight.double()) for name in names}
