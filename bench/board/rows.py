"""A row: all seeds of one thing that was asked for, as one line of the board, with mean, interval and remarks.

A row's score is the mean over the seeds that count. Seeds that failed, that the float gate refused, that belong to an
older version or that were never run stay visible beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vitptq.bench.bits import BRANCH, FLOAT_BITS, BitSpec
from vitptq.bench.board import statistics
from vitptq.bench.board.badges import Badge, badges
from vitptq.bench.board.image_noise import ImageNoises
from vitptq.bench.board.method_card import MethodCard
from vitptq.bench.board.metrics import secondary
from vitptq.bench.board.paired_difference import Draw
from vitptq.bench.board.statistics import Interval
from vitptq.bench.contracts.task import Metric
from vitptq.bench.results.audit_rules import branch_macs
from vitptq.bench.results.cell import FP32, STANDARD, Cell, canonical_json, sha256
from vitptq.bench.results.folders import Origin
from vitptq.bench.results.record import Costs, OperandAudit, Record

NEARLY_ALL = 99.0
"""Percent of the multiply-accumulates. From here on the share that is quantised need not be said beside the bits."""


@dataclass(frozen=True)
class Row:
    """All seeds of one cell but for the seed: what one line of the board shows."""

    records: tuple[Record, ...]
    """The current record of every seed, ascending. Never empty; all of one version of method, data and checkpoint."""
    outdated: tuple[Record, ...]
    """Records of seeds that exist only for an older version: never averaged with the current ones."""
    superseded: int
    """How many older records of the same seeds were replaced by newer ones."""
    expected_seeds: tuple[int, ...]
    """Seeds that some row of the same table was run with."""
    variant: str
    """What sets it apart from other rows of the same method and bits; empty where there is none."""
    current: bool
    """Whether it was measured on the newest data and checkpoint of its table."""
    card: MethodCard
    metrics: tuple[Metric, ...]
    """What its table has scores of, the ranking one first. Never empty."""
    gate_metric: Metric
    """What the float gate compared: the metric that ranks by the task's own word."""
    float_records: Mapping[str, Record]
    """The float records of its table, by id."""
    noises: ImageNoises = field(compare=False)
    """How its scores vary with the images."""
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False)
    """In which of several results folders the records lie, by id."""

    @cached_property
    def id(self) -> str:
        """Return the identity: sha256 of everything that was asked for but the seed."""
        c = self.cell
        key = [c.task, c.edition, c.model, c.method, c.bits, c.track, c.calibration_size, c.parameters]
        key += [c.precision] if c.precision != FP32 else []
        return sha256(canonical_json(key).encode())

    @property
    def cell(self) -> Cell:
        """Return the first seed's cell, for everything that the seeds share."""
        return self.records[0].cell

    @property
    def bits(self) -> BitSpec:
        """Return the bit spec."""
        return self.cell.bit_spec

    @property
    def is_float(self) -> bool:
        """Tell whether it is the float reference."""
        return self.cell.is_float

    @property
    def fidelity(self) -> str:
        """Return how well its method, with its parameters, is known to match its paper; empty where not known."""
        return self.card.fidelity_of(self.cell.parameters)

    @property
    def label(self) -> str:
        """Return the method's title with what sets this row apart."""
        return f"{self.card.title} ({self.variant})" if self.variant else self.card.title

    @cached_property
    def counted(self) -> tuple[Record, ...]:
        """Return the records whose score counts."""
        return tuple(r for r in self.records if r.counts)

    @cached_property
    def apart(self) -> tuple[Record, ...]:
        """Return the records that have a score which does not count."""
        return tuple(r for r in self.records if r.status == "ok" and not r.counts)

    @cached_property
    def failed(self) -> tuple[Record, ...]:
        """Return the records without a score."""
        return tuple(r for r in self.records if r.status == "failed")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds that the score is the mean of."""
        return tuple(r.cell.seed for r in self.counted)

    @property
    def missing_seeds(self) -> tuple[int, ...]:
        """Return the expected seeds that the score does not cover."""
        return tuple(s for s in self.expected_seeds if s not in self.seeds)

    @property
    def metric(self) -> Metric:
        """Return the metric that ranks."""
        return self.metrics[0]

    @property
    def secondary(self) -> tuple[Metric, ...]:
        """Return the metrics that are shown beside the ranking one everywhere."""
        return secondary(self.metrics)

    @cached_property
    def scored(self) -> tuple[Metric, ...]:
        """Return the metrics that some seed has a score of."""
        return tuple(metric for metric in self.metrics if any(metric.name in r.scores for r in self.records))

    @cached_property
    def score(self) -> float | None:
        """Return the mean of the ranking score over the counted seeds."""
        return self.mean(self.metric)

    @cached_property
    def interval(self) -> Interval | None:
        """Return the 95 % interval of the score."""
        return self.interval_of(self.metric)

    @property
    def images(self) -> int:
        """Return the number of images behind every counted score (the smallest, should they differ)."""
        return min((r.images for r in self.counted), default=0)

    @cached_property
    def drop(self) -> float | None:
        """Return the mean difference to the float score that the gate measured in each seed's own environment."""
        return self.mean_drop(self.metric)

    @property
    def float_score(self) -> float | None:
        """Return the mean float score of the environments in which the counted seeds were measured."""
        return self._mean(lambda r: self._float_score(r, self.metric.name))

    @cached_property
    def quantised_share(self) -> float | None:
        """Return the percentage of multiply-accumulates with both operands quantised: the lowest of the seeds.

        None for the float model.
        """
        shares = [share_of(r) for r in self.counted]
        known = [s for s in shares if s is not None]
        return min(known) if known and len(known) == len(shares) else None

    @property
    def widths(self) -> str:
        """Name what is quantised: "W4A4", "W4A4 on 17.4 % of MACs" where much is not, or "not quantised"."""
        return "not quantised" if self.is_float else f"{self.bits}{share_text([self.quantised_share])}"

    @property
    def parameters(self) -> int | None:
        """Return how many parameters the built model has, all parts together: the most of the counted seeds."""
        counts = [sum(r.audit.parameters.values()) for r in self.counted if r.audit]
        return max(counts, default=0) or None

    @property
    def macs(self) -> int | None:
        """Return the multiply-accumulates of one image: the most of the counted seeds."""
        return max((r.audit.macs for r in self.counted if r.audit), default=None)

    @property
    def violations(self) -> tuple[str, ...]:
        """Return what the audit found in any counted seed, each once."""
        found = (v for r in self.counted if r.audit for v in r.audit.violations)
        return tuple(dict.fromkeys(found))

    @property
    def dynamic(self) -> bool:
        """Tell whether the method says that it finds its ranges while the model runs."""
        return any(r.audit.dynamic for r in self.counted if r.audit)

    @property
    def stale(self) -> bool:
        """Tell whether the adapter that is installed is another than the one that was measured."""
        return self.card.known and bool(self.card.source_hash) and self.cell.source != self.card.source_hash

    @property
    def added_by_branches(self) -> tuple[int, float] | None:
        """Return the parameters in side branches, and their share of all multiply-accumulates in percent."""
        audited = next((r.audit for r in self.counted if r.audit), None)
        if audited is None or not self.bits.branch:
            return None
        return audited.parameters.get(BRANCH, 0), 100 * branch_macs(audited.operands) / audited.macs

    @property
    def kept_in_float(self) -> tuple[OperandAudit, ...]:
        """Return the operands whose quantizer keeps values of each group in float, of the first counted seed."""
        audited = next((r.audit for r in self.counted if r.audit), None)
        return tuple(side for side in audited.operands if side.float_values) if audited else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the notes of all seeds, each once."""
        return tuple(dict.fromkeys(note for r in self.records for note in r.notes))

    @property
    def comparable(self) -> bool:
        """Tell whether the row may stand beside others: standard track, fp32, clean audit, newest data, checkpoint."""
        standard = (self.cell.track, self.cell.precision) == (STANDARD, FP32)
        return self.current and not self.violations and standard

    @cached_property
    def badges(self) -> tuple[Badge, ...]:
        """Return the remarks that a reader must see beside the score."""
        return tuple(badges(self))

    @property
    def status(self) -> str:
        """Return what became of it: counted, incomplete, not counted, unsupported or failed."""
        if self.counted:
            return "incomplete" if self.missing_seeds else "counted"
        if self.apart:
            return "not counted"
        kinds = {r.failure.kind for r in self.failed if r.failure}
        return "unsupported" if kinds == {"unsupported"} else "failed"

    @property
    def reason(self) -> str:
        """Say why seeds do not count; empty where all do."""
        apart = [f"seed {r.cell.seed}: {why_apart(r)}" for r in self.apart]
        failed = [f"seed {r.cell.seed}: {r.failure.kind}: {r.failure.message}" for r in self.failed if r.failure]
        outdated = [f"seed {r.cell.seed}: measured with an older version only" for r in self.outdated]
        return "; ".join([*apart, *failed, *outdated])

    def mean(self, metric: Metric) -> float | None:
        """Return the mean of one score over the counted seeds; None if any of them lacks it."""
        return self._mean(lambda r: r.scores.get(metric.name))

    def interval_of(self, metric: Metric) -> Interval | None:
        """Return the 95 % interval of one score."""
        if metric.name not in self._intervals:
            self._intervals[metric.name] = self._interval_of(metric)
        return self._intervals[metric.name]

    @cached_property
    def _intervals(self) -> dict[str, Interval | None]:
        return {}

    def _interval_of(self, metric: Metric) -> Interval | None:
        scores = [r.scores[metric.name] for r in self.counted if metric.name in r.scores]
        if len(scores) != len(self.counted) or not scores:
            return None
        if metric.proportion and self.images:
            return statistics.interval(scores, statistics.wilson(statistics.mean(scores), self.images))
        return statistics.interval(scores, self._resampled(metric))

    def _resampled(self, metric: Metric) -> tuple[float, float] | None:
        """Return the interval of a mean score from resampled images; None where the evidence does not tell."""
        draws = self.draws(metric)
        noises = [draw.noise for draw in draws.values()]
        if len(draws) != len(self.counted) or not all(noises[0].matches(noise) for noise in noises):
            return None
        together = np.mean([noise.percent for noise in noises], axis=0)
        centre = statistics.mean([draw.score for draw in draws.values()])
        return statistics.around(centre, math.sqrt(noises[0].variance_of(together)))

    def draws(self, metric: Metric) -> dict[int, Draw]:
        """Return the counted scores by seed with how they vary with the images; those without evidence are missing."""
        found = {r.cell.seed: (r, self.noises.of(r).get(metric.name)) for r in self.counted if metric.name in r.scores}
        return {s: Draw(r.scores[metric.name], noise) for s, (r, noise) in found.items() if noise is not None}

    def mean_drop(self, metric: Metric) -> float | None:
        """Return the mean over the counted seeds of one score's difference to float; None for the float model."""
        return None if self.is_float else self._mean(lambda r: self.drop_of(r, metric))

    def drop_of(self, record: Record, metric: Metric | None = None) -> float | None:
        """Return a score's difference to float in the same environment, in points; negative is a loss.

        The gate keeps the float model's ranking score; any other is known where its record is of that environment.
        """
        name = (metric or self.metric).name
        if record.gate is None or name not in record.scores:
            return None
        measured = self._float_score(record, name)
        return None if measured is None else record.scores[name] - measured

    def _float_score(self, record: Record, name: str) -> float | None:
        if record.gate is None or name == self.gate_metric.name:
            return record.gate.measured if record.gate else None
        reference = self.float_records.get(record.gate.float_cell)
        same = reference is not None and reference.provenance.environment == record.provenance.environment
        return reference.scores.get(name) if reference is not None and same else None

    def cost(self, name: str) -> float | None:
        """Return the mean of one cost over the counted seeds; None if any of them lacks it."""
        if name not in Costs.model_fields:
            raise KeyError(name)
        return self._mean(lambda r: getattr(r.costs, name) if r.costs else None)

    def _mean(self, value: Callable[[Record], float | None]) -> float | None:
        # A seed without the value makes the mean unknown: it never becomes the mean of the rest.
        values = [value(r) for r in self.counted]
        known = [v for v in values if v is not None]
        return statistics.mean(known) if known and len(known) == len(values) else None


def share_text(shares: Iterable[float | None]) -> str:
    """Return what to say behind a bit width of the share of multiply-accumulates that has it: nothing where all has.

    >>> share_text([17.4, 17.4]), share_text([17.4, 36.0]), share_text([99.8])
    (' on 17.4 % of MACs', ' on 17.4 to 36.0 % of MACs', '')
    """
    known = [share for share in shares if share is not None]
    if not known or min(known) >= NEARLY_ALL:
        return ""
    ends = dict.fromkeys(f"{end:.1f}" for end in (min(known), max(known)))
    return f" on {' to '.join(ends)} % of MACs"


def share_of(record: Record) -> float | None:
    """Return the share of multiply-accumulates with both operands quantised, in percent; None for the float model."""
    bits = record.cell.bit_spec
    nothing = bits.weights == bits.activations == FLOAT_BITS  # the float model, or low-rank factors in float
    if nothing or record.audit is None or record.audit.macs <= 0:
        return None
    return 100 * record.audit.quantised_macs / record.audit.macs


def why_apart(record: Record) -> str:
    """Say why a measured score does not count."""
    if record.gate is None:
        return "the float gate was not run"
    return record.gate.reason or "the float gate failed"
