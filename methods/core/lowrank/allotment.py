"""Ranks for a parameter budget: the components that carry the least energy per parameter go first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vitptq.bench.errors import Unsupported


@dataclass(frozen=True)
class Candidate:
    """A layer that may be put into factors."""

    outputs: int
    inputs: int
    energy: Tensor
    """(k,), descending, of its components."""

    @property
    def dense(self) -> int:
        """Return the parameters of the weight."""
        return self.outputs * self.inputs

    def cost(self, rank: int) -> int:
        """Return the parameters at a rank: those of the factors, or of the weight where they would be no fewer."""
        return min(rank * (self.outputs + self.inputs), self.dense)


def greedy_ranks(
    layers: Mapping[str, Candidate], budget: int, *, extra: int = 0, least: int = 1, give_back: bool = True
) -> dict[str, int]:
    """Return the rank of each layer, so that all together have at most `budget` parameters.

    Starts at full rank and drops, over all layers, the component of least energy per parameter, never below `least`.
    `extra` more ranks, for a residual, count in each layer's cost. Dropping saves nothing until a layer's factors are
    smaller than its weight, so there may be some budget left at the end: `give_back` returns dropped components in
    the order of their energy per parameter as long as they fit. Ties: the lower layer, then the higher component.
    """
    ranks = {name: len(layer.energy) for name, layer in layers.items()}
    total = sum(layer.cost(ranks[name] + extra) for name, layer in layers.items())
    dropped: list[str] = []
    for name in _order(layers, least):
        if total <= budget:
            break
        total += _change(layers[name], ranks, name, -1, extra)
        dropped.append(name)
    if total > budget:
        raise Unsupported(
            f"with rank {least + extra} in every layer {total} parameters are left of the layers that can be put into "
            f"factors, and the budget leaves them {budget}; remove a smaller percentage"
        )
    full: set[str] = set()
    for name in reversed(dropped) if give_back else ():
        cost = 0 if name in full else _cost_of_one_more(layers[name], ranks[name], extra)
        if name in full or total + cost > budget:
            full.add(name)  # its later components would have to come before this one
        else:
            total += _change(layers[name], ranks, name, +1, extra)
    return ranks


def uniform_ranks(layers: Mapping[str, Candidate], budget: int, *, least: int = 1) -> dict[str, int]:
    """Return ranks that are the same share of each layer's break-even rank, the largest that the budget allows."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        ranks = _at_share(layers, share, least)
        fits = sum(layer.cost(ranks[name]) for name, layer in layers.items()) <= budget
        low, high = (share, high) if fits else (low, share)
    ranks = _at_share(layers, low, least)
    total = sum(layer.cost(ranks[name]) for name, layer in layers.items())
    if total > budget:
        raise Unsupported(f"with rank {least} in every layer {total} parameters are left, the budget is {budget}")
    return ranks


def _at_share(layers: Mapping[str, Candidate], share: float, least: int) -> dict[str, int]:
    return {
        name: max(least, int(share * layer.dense / (layer.outputs + layer.inputs))) for name, layer in layers.items()
    }


def _order(layers: Mapping[str, Candidate], least: int) -> list[str]:
    """Return the layer of each component that may be dropped, the component to be dropped first in front."""
    found = []
    for place, (name, layer) in enumerate(layers.items()):
        per_parameter = (layer.energy / (layer.outputs + layer.inputs)).tolist()
        found += [(per_parameter[i], place, -i, name) for i in range(least, len(per_parameter))]
    return [name for *_, name in sorted(found)]


def _cost_of_one_more(layer: Candidate, rank: int, extra: int) -> int:
    return layer.cost(rank + 1 + extra) - layer.cost(rank + extra)


def _change(layer: Candidate, ranks: dict[str, int], name: str, by: int, extra: int) -> int:
    """Change a layer's rank and return by how much its cost changes."""
    before = layer.cost(ranks[name] + extra)
    ranks[name] += by
    return layer.cost(ranks[name] + extra) - before
