"""Coverage: which claims the full suites measure, and why they do not measure the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vitptq.bench import registry
from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import VitptqError
from vitptq.bench.results import suites
from vitptq.bench.results.cell import Cell, canonical_json
from vitptq.bench.results.claim_names import Names
from vitptq.bench.results.claims import EDITION, Claim

SUITES = ("imagenet", "coco", "ade20k", "hybrid")


@dataclass(frozen=True, slots=True)
class Covered:
    """A claim, and why no suite measures it (empty where one does)."""

    claim: Claim
    implemented: bool
    missing: str = ""


def coverage(claims: Sequence[Claim], names: Names, cells: Iterable[Cell] | None = None) -> list[Covered]:
    """Return each claim with what keeps the full suites (or other `cells`) from measuring it."""
    cells = full_cells() if cells is None else cells
    asked, cards = _asked(cells), _cards({claim.task for claim in claims})
    return [_covered(claim, names, cards[claim.task], asked) for claim in claims]


def claimed(claims: Iterable[Claim], names: Names, cells: Iterable[Cell]) -> set[str]:
    """Return the ids of those of `cells` that measure what some claim is of."""
    full = [cell for cell in cells if cell.edition == EDITION]
    asked, cards = _asked(full), _cards({cell.task for cell in full})
    found = set()
    for claim in claims:
        adapter = names.adapter(claim)
        model = names.model(claim, cards[claim.task]) if claim.task in cards else None
        if adapter is not None and model is not None:
            cells_of_it = asked.get((claim.task, model, adapter.method, adapter.spec(claim) or ""), [])
            found |= {cell.id for cell in cells_of_it if adapter.fits(cell)}
    return found


Asked = Mapping[tuple[str, str, str, str], Sequence[Cell]]
"""Cells by task, model, method and bits."""


def _asked(cells: Iterable[Cell]) -> Asked:
    asked: dict[tuple[str, str, str, str], list[Cell]] = {}
    for cell in cells:
        asked.setdefault((cell.task, cell.model, cell.method, cell.bits), []).append(cell)
    return asked


def _cards(tasks: Iterable[str]) -> dict[str, Mapping[str, ModelCard]]:
    return {task: registry.task(task, EDITION).models() for task in tasks}


def full_cells() -> list[Cell]:
    """Return the cells of the suites on the full editions."""
    return [cell for name in SUITES for cell in suites.load(name)]


def _covered(claim: Claim, names: Names, cards: Mapping[str, ModelCard], asked: Asked) -> Covered:
    adapter = names.adapter(claim)
    model = names.model(claim, cards)
    if adapter is None:
        return Covered(claim, implemented=False, missing=f"method {claim.method}: {_why(names, claim)}")
    if model is None:
        return Covered(claim, True, f"model {claim.model}: {names.no_model.get(claim.model, 'no model card')}")
    bits = adapter.spec(claim)
    if bits is None:
        return Covered(claim, True, f"bits {claim.w_bits}/{claim.a_bits}: mixed precision, no whole average")
    if limit := names.limit(adapter.method, claim.task, cards[model]):
        return Covered(claim, True, f"method {adapter.method} cannot do it yet: {limit}")
    cells = asked.get((claim.task, model, adapter.method, bits), [])
    if any(adapter.fits(cell) for cell in cells):
        return Covered(claim, True)
    asked_as = ", ".join(f"{name}={canonical_json(value)}" for name, value in adapter.parameters.items())
    note = " (activations in float)" if claim.a_bits == "32" else ""
    what = f"bits {bits} of {adapter.method}{note}"
    return Covered(claim, True, f"{what}: no suite has it" + (f" with {asked_as}" if cells else ""))


def _why(names: Names, claim: Claim) -> str:
    return names.not_implemented.get(claim.method, "unknown word")


def report(covered: Sequence[Covered]) -> list[str]:
    """Return the shares by task, and the rest by reason, as lines."""
    tasks = sorted({c.claim.task for c in covered})
    lines = [f"{'task':<10} {'rows':>5} {'measured':>15} {'of implemented methods':>24}"]
    for title, rows in [*((task, [c for c in covered if c.claim.task == task]) for task in tasks), ("all", covered)]:
        done = [c for c in rows if not c.missing]
        known = [c for c in rows if c.implemented]
        lines.append(
            f"{title:<10} {len(rows):>5} {_share(len(done), len(rows)):>15} {_share(len(done), len(known)):>24}"
        )
    reasons = Counter((c.claim.task, c.missing) for c in covered if c.missing)
    lines += [f"{count:>5}  {task:<9} {why}" for (task, why), count in sorted(reasons.items(), key=lambda r: -r[1])]
    return lines


def share(covered: Sequence[Covered]) -> float:
    """Return the share of the claims that a suite measures."""
    return sum(not c.missing for c in covered) / len(covered) if covered else 0.0


def problems(claims: Sequence[Claim], names: Names) -> list[str]:
    """Return what is wrong with the names: words without a meaning, adapters, parameters and models not here."""
    found = names.unknown_words(claims)
    for word, adapter in names.methods.items():
        try:
            registry.method(adapter.method).configured(adapter.parameters)
        except VitptqError as error:
            found.append(f'"{word}": {error}')
    for task, words in names.models.items():
        known = registry.task(task, EDITION).models()
        for word, models in words.items():
            found += [f'"{word}": {task} has no model "{model}"' for model in models if model not in known]
    return found


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.1f} %)" if whole else "-"
