"""The steps that low-rank methods share: components, ranks for the budget, factors layer by layer, grids on top."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from vitptq.bench.bits import FLOAT_BITS, BitSpec
from vitptq.bench.contracts.method import Calibration, Category, Method
from vitptq.bench.contracts.reporting import note_table, report
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.lowrank.allotment import Candidate, greedy_ranks, uniform_ranks
from vitptq.methods.core.lowrank.components import Components
from vitptq.methods.core.lowrank.error_moments import LayerStep
from vitptq.methods.core.lowrank.factored import Factored, as_linear, breaks_even
from vitptq.methods.core.lowrank.residual import Factors
from vitptq.methods.core.model.operands import Linear, MatMul
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.observers import observe_activations, observe_weights
from vitptq.methods.core.ranges.shrunk import least_error_range
from vitptq.methods.core.reconstruct.least_error_start import LeastErrorOfSample


@dataclass(frozen=True)
class LowRankMethod(Method):
    """Puts the linear layers of attention blocks into factors; a subclass says which components matter."""

    category: ClassVar[Category] = "low-rank"

    allotment: Literal["greedy", "uniform"] = "greedy"
    """Ranks by energy per parameter over all layers, or the same share of every layer's break-even rank."""
    least_rank: int = 1
    give_back: bool = True
    """Whether what greedy dropping left of the budget goes back to the components of most energy."""

    @abstractmethod
    def components(self, net: PreparedModel, calibration: Calibration, names: list[str]) -> Mapping[str, Components]:
        """Return the components of the named layers of the float model."""

    def factors(self, found: Components, rank: int, step: LayerStep) -> Factors:
        """Return a layer's factors: `rank` of its components, and `residual_rank` more."""
        return found.factors(rank)

    def compensated(self, net: PreparedModel, twin: PreparedModel, calibration: Calibration) -> PreparedModel:
        """Return the model in factors with what makes up for their error; `twin` is the float model."""
        return net

    @property
    def residual_rank(self) -> int:
        """Return how many ranks of each layer are not components, but a residual's."""
        return 0

    @torch.no_grad()
    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model in factors; where the spec has widths, factors and activations are on grids, too."""
        if not bits.removed:
            raise Unsupported(f"{self.title} makes low-rank factors: name the percentage, such as {bits}+lowrank60")
        net = prepare(model, bits.dense)
        names = _linear_layers_of_attention_blocks(net)
        found = self.components(net, calibration, names)
        layers = {name: _candidate(as_linear(net.model, name), each) for name, each in found.items()}
        ranks = self._ranks(layers, _budget(model, net, names, bits))
        twin = net.twin()
        net = self.compensated(self._in_factors(net, twin, calibration, found, layers, ranks), twin, calibration)
        if bits.weights != FLOAT_BITS:
            observe_weights(net, estimate=least_error_range)
        if bits.activations != FLOAT_BITS:
            observe_activations(net, calibration, LeastErrorOfSample)
        return net.switch(True)

    def _ranks(self, layers: Mapping[str, Candidate], budget: int) -> dict[str, int]:
        """Return the rank of each layer, a residual's included."""
        q = self.residual_rank
        if self.allotment == "uniform":
            return uniform_ranks(layers, budget, least=self.least_rank + q)
        ranks = greedy_ranks(layers, budget, extra=q, least=self.least_rank, give_back=self.give_back)
        return {name: rank + q for name, rank in ranks.items()}

    def _in_factors(
        self,
        net: PreparedModel,
        twin: PreparedModel,
        calibration: Calibration,
        found: Mapping[str, Components],
        layers: Mapping[str, Candidate],
        ranks: Mapping[str, int],
    ) -> PreparedModel:
        """Put the layers into factors one after the other, but for those that would not be smaller."""
        rows = []
        for done, (name, candidate) in enumerate(layers.items()):
            report("layers in factors", done, len(layers))
            smaller = candidate.cost(ranks[name]) < candidate.dense
            step = LayerStep(net, twin, name, calibration)
            if smaller:
                left, right = self.factors(found[name], ranks[name] - self.residual_rank, step)
                net = net.replaced({name: Factored(as_linear(net.model, name), left, right, net.bits)})
            rows.append({**_row(name, candidate, ranks[name] if smaller else None), **step.told})
        _tell(rows)
        return net


def _linear_layers_of_attention_blocks(net: PreparedModel) -> list[str]:
    """Return the names in execution order; patch merging, necks and heads have no attention."""
    blocks = [(name, block) for name, block in net.blocks() if any(isinstance(m, MatMul) for m in block.modules())]
    found = [f"{name}.{inner}" for name, block in blocks for inner, m in block.named_modules() if isinstance(m, Linear)]
    if not found:
        raise Unsupported(f"no linear layer in an attention block of {type(net.model).__name__}: nothing to factor")
    return found


def _budget(model: nn.Module, net: PreparedModel, names: list[str], bits: BitSpec) -> int:
    """Return how many parameters the named layers' weights may have; parts that the spec leaves do not count."""
    allowed = (100 - bits.removed) * _count(model, bits) // 100
    fixed = _count(net.model, bits) - sum(as_linear(net.model, name).weight.numel() for name in names)
    return allowed - fixed


def _count(model: nn.Module, bits: BitSpec) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not bits.leaves(name))


def _candidate(layer: Linear, found: Components) -> Candidate:
    return Candidate(layer.out_features, layer.in_features, found.energy)


def _row(name: str, layer: Candidate, rank: int | None) -> dict[str, str | int | float | None]:
    """Return what the table says of a layer; `rank` is None where it stays dense."""
    return {
        "layer": name,
        "weight": f"{layer.outputs} x {layer.inputs}",
        "break-even rank": breaks_even(layer.outputs, layer.inputs),
        "kept rank": rank,
        "parameters": layer.dense if rank is None else layer.cost(rank),
    }


def _tell(rows: Sequence[Mapping[str, object]]) -> None:
    text = (
        "Rank r costs r (outputs + inputs) parameters, a residual's rank included; above the break-even rank a layer "
        "stays dense, which is a kept rank of –."
    )
    note_table("kept ranks", rows, text, bars=("kept rank", "break-even rank"))
