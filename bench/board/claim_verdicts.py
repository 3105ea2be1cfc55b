"""Claimed beside measured: a verdict for every published number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vitptq.bench import registry
from vitptq.bench.board.board import Board
from vitptq.bench.board.rows import Row
from vitptq.bench.board.tables import Table
from vitptq.bench.contracts.task import Metric, ModelCard
from vitptq.bench.results import paper_settings
from vitptq.bench.results.claim_names import Adapter, Names
from vitptq.bench.results.claims import EDITION, Claim

Word = Literal["reproduced", "not reproduced", "not comparable", "not run"]
SAME_FLOAT = 0.1
"""Points. Float scores that are farther apart are of another checkpoint, crop or transform."""
LAST_DIGIT = 0.005
"""Half of the last digit that papers print."""


@dataclass(frozen=True)
class Verdict:
    """What the measurements say about one claim."""

    claim: Claim
    word: Word
    why: str = ""
    """What keeps the two from being compared, or why nothing was measured."""
    row: Row | None = None
    metric: Metric | None = None
    remarks: tuple[str, ...] = ()
    """What the paper did that the measurement does not repeat."""

    @property
    def measured(self) -> float | None:
        """Return the measured score."""
        return self.row.mean(self.metric) if self.row and self.metric else None

    @property
    def delta(self) -> float | None:
        """Return measured less claimed, in points."""
        return None if self.measured is None else self.measured - self.claim.value


Cards = Mapping[str, Mapping[str, ModelCard]]


def verdicts(
    claims: Iterable[Claim], names: Names, board: Board | None = None, cards: Cards | None = None
) -> list[Verdict]:
    """Return a verdict for each claim; only rows of the full edition are held against published numbers.

    `cards` are that edition's models by task and name, for who knows them without loading the tasks.
    """
    judge = _Judge(names, board, cards or {})
    return [judge.verdict(claim) for claim in claims]


class _Judge:
    def __init__(self, names: Names, board: Board | None, cards: Cards) -> None:
        self.names = names
        self.tables = {(t.task, t.model): t for t in (board.tables if board else ()) if t.edition == EDITION}
        self._cards = dict(cards)

    def verdict(self, claim: Claim) -> Verdict:
        adapter = self.names.adapter(claim)
        if adapter is None:
            return Verdict(claim, "not run", self.names.not_implemented.get(claim.method, "no adapter"))
        model = self.names.model(claim, self._cards_of(claim.task))
        if model is None:
            return Verdict(claim, "not run", self.names.no_model.get(claim.model, "no model card"))
        if adapter.spec(claim) is None:
            return Verdict(claim, "not run", "its widths are no whole numbers")
        table = self.tables.get((claim.task, model))
        found = _row(claim, adapter, table) if table is not None else None
        if found is None:
            return Verdict(claim, "not run", "no record that counts")
        return _compared(claim, adapter, *found)

    def _cards_of(self, task: str) -> Mapping[str, ModelCard]:
        if task not in self._cards:
            self._cards[task] = registry.task(task, EDITION).models()
        return self._cards[task]


def _row(claim: Claim, adapter: Adapter, table: Table) -> tuple[Row, Metric] | None:
    """Return the row that measures a claim, that with the paper's own settings before the standard track's."""
    metric = next((metric for metric in table.metrics if metric.name == claim.metric), None)
    rows = [row for row in table.counted if row.cell.bits == adapter.spec(claim) and adapter.fits(row.cell)]
    if metric is None or not rows:
        return None
    return min(rows, key=lambda row: (row.cell.track != paper_settings.PUBLISHED, row.id)), metric


def _compared(claim: Claim, adapter: Adapter, row: Row, metric: Metric) -> Verdict:
    paper = paper_settings.load(adapter.method) if adapter.method in paper_settings.papers() else None
    remarks = tuple(paper.differences) if paper else ()
    why = "; ".join(_differences(claim, adapter, row, metric))
    measured = row.mean(metric)
    if why or measured is None:
        return Verdict(claim, "not comparable", why or "no score of this metric", row, metric, remarks)
    interval = row.interval_of(metric)
    low, high = (interval.low, interval.high) if interval else (measured, measured)
    inside = low - LAST_DIGIT <= claim.value <= high + LAST_DIGIT
    return Verdict(claim, "reproduced" if inside else "not reproduced", "", row, metric, remarks)


def _differences(claim: Claim, adapter: Adapter, row: Row, metric: Metric) -> Iterator[str]:
    """Yield what makes two numbers of one method two different things."""
    here = row.mean(metric) if row.is_float else row.float_score
    printed = claim.fp_value if metric is row.gate_metric else None
    if printed is not None and here is not None and abs(printed - here) > SAME_FLOAT:
        yield f"its float score is {printed:.2f}, here {here:.2f}: another checkpoint or transform"
    if row.violations:
        yield f"the audit found: {'; '.join(row.violations)}"
    if not row.current:
        yield "measured on other data or another checkpoint than today's"
    if row.cell.track != paper_settings.PUBLISHED and adapter.method in paper_settings.papers():
        yield from _other_settings(adapter.method, row)


def _other_settings(method: str, row: Row) -> Iterator[str]:
    own = paper_settings.find(method, row.cell.task, method, row.cell.bits)
    if own is None:
        return
    if own.calibration_size != row.cell.calibration_size:
        yield f"{own.calibration_size} calibration images, here {row.cell.calibration_size}"
    for name, value in sorted(own.parameters.items()):
        if name in row.cell.parameters and row.cell.parameters[name] != value:
            yield f"{name} = {value}, here {row.cell.parameters[name]}"


@dataclass(frozen=True)
class Disagreement:
    """Several published values of one method, model and bit width."""

    claims: tuple[Claim, ...]
    """Two or more, lower values first."""

    @property
    def range(self) -> float:
        """Return the distance of the highest to the lowest, in points."""
        return self.claims[-1].value - self.claims[0].value


def disagreements(claims: Sequence[Claim], least: float = 0.5) -> list[Disagreement]:
    """Return where sources differ by at least `least` points about the same thing, the widest ranges first."""
    alike: dict[tuple[str, ...], list[Claim]] = {}
    for claim in claims:
        key = (claim.task, claim.head, claim.model, claim.method, claim.w_bits, claim.a_bits, claim.softmax_bits)
        alike.setdefault((*key, claim.metric), []).append(claim)
    found = [Disagreement(tuple(sorted(group, key=lambda c: (c.value, c.reported_in)))) for group in alike.values()]
    wide = [each for each in found if each.range >= least]
    return sorted(wide, key=lambda each: (-each.range, str(each.claims[0])))
