"""Published numbers by what they were measured on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vitptq.bench import registry
from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.claim_names import Adapter, Names
from vitptq.bench.results.claims import EDITION, Claim

Place = tuple[str, str, str, str]
"""(task, model card, bits, metric)."""


@dataclass(frozen=True)
class Claimed:
    """Finds the published numbers that belong to a cell."""

    found: Mapping[Place, tuple[tuple[Adapter, Claim], ...]]

    @classmethod
    def nothing(cls) -> Claimed:
        """Return one that knows no number."""
        return cls({})

    @classmethod
    def among(cls, claims: Iterable[Claim], names: Names) -> Claimed:
        """Sort the claims by what they are about; those without an adapter or a model here are left out."""
        found: dict[Place, list[tuple[Adapter, Claim]]] = {}
        cards: dict[str, Mapping[str, ModelCard]] = {}
        for claim in claims:
            if claim.task not in cards:
                cards[claim.task] = registry.task(claim.task, EDITION).models()
            adapter, model = names.adapter(claim), names.model(claim, cards[claim.task])
            bits = adapter.spec(claim) if adapter is not None else None
            if adapter is not None and model is not None and bits is not None:
                found.setdefault((claim.task, model, bits, claim.metric), []).append((adapter, claim))
        return cls({place: tuple(pairs) for place, pairs in found.items()})

    def claims(self, cell: Cell, metric: str) -> Sequence[Claim]:
        """Return the claims about a cell: of its method's own paper where there are any, else of others."""
        if cell.edition != EDITION:
            return ()
        pairs = self.found.get((cell.task, cell.model, cell.bits, metric), ())
        fitting = [claim for adapter, claim in pairs if adapter.fits(cell)]
        return [claim for claim in fitting if claim.kind == "original"] or fitting

    def beside(self, cell: Cell, metric: str) -> tuple[float, ...]:
        """Return the different published values, ascending."""
        return tuple(sorted({claim.value for claim in self.claims(cell, metric)}))
