"""What became of each thing that was measured twice: its score on the same images, its time and memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vitptq.bench.board.image_noise import ImageNoises
from vitptq.bench.board.paired_difference import Difference, Draw, difference
from vitptq.bench.contracts.task import Metric, ranking
from vitptq.bench.results.cell import Cell, canonical_json
from vitptq.bench.results.record import Record

Kind = Literal["failed", "score", "time", "memory", "mended", "new", "gone", "same"]
KINDS: tuple[Kind, ...] = ("failed", "score", "time", "memory", "mended", "new", "gone", "same")
"""In the order of a report."""
FEW_TIMES = 4
"""With fewer earlier times their spread says little, and `UNKNOWN_NOISE` stands for it."""
UNKNOWN_NOISE = 1.5
LEAST_NOISE = 1.25
"""Times of one machine differ by a quarter from day to day."""
LEAST_SECONDS = 1.0
MEMORY_NOISE = 1.1
LEAST_MIB = 64.0


@dataclass(frozen=True)
class Change:
    """One thing that was asked for (a cell but for seed and versions), before and after."""

    kinds: tuple[Kind, ...]
    old: tuple[Record, ...]
    new: tuple[Record, ...]
    metric: Metric | None = None
    score: Difference | None = None
    seconds: tuple[float, float] | None = None
    """Quantising before and after: medians on the machine of the new records."""
    mib: tuple[float, float] | None = None

    @property
    def cell(self) -> Cell:
        """Return the cell of the newest state."""
        return (self.new or self.old)[0].cell

    @property
    def worse(self) -> bool:
        """Tell whether this is a regression: a failure, a lower score, more time or memory beyond what varies."""
        lower = "score" in self.kinds and self.score is not None and self.score.points < 0
        slower = "time" in self.kinds and self.seconds is not None and self.seconds[1] > self.seconds[0]
        larger = "memory" in self.kinds and self.mib is not None and self.mib[1] > self.mib[0]
        return "failed" in self.kinds or lower or slower or larger


def changes(
    old: Iterable[Record], new: Iterable[Record], noises: ImageNoises, history: Iterable[Record] = ()
) -> list[Change]:
    """Return what differs between two states, regressions first; what stayed the same is left out.

    `history` are all records that are known, for how much times on one machine vary; `old` is part of it.
    """
    before, after, earlier = _by_thing(old), _by_thing(new), _all_by_thing([*history, *old])
    found = []
    for key in sorted(before.keys() | after.keys()):
        change = _change(before.get(key, {}), after.get(key, {}), earlier.get(key, []), noises)
        if change.kinds != ("same",):
            found.append(change)
    return sorted(found, key=lambda c: (not c.worse, KINDS.index(c.kinds[0]), _size(c), c.cell.label()))


def thing(cell: Cell) -> str:
    """Return what stays the same when code, data or checkpoint change, and is no matter of the seed."""
    asked = cell.model_dump(
        mode="json",
        include={"task", "edition", "model", "method", "parameters", "bits", "track", "calibration_size", "precision"},
    )
    return canonical_json(asked)


def _size(change: Change) -> float:
    return change.score.points if change.score else 0.0


def _by_thing(records: Iterable[Record]) -> dict[str, dict[int, Record]]:
    """Return the newest record of each seed of each thing."""
    found: dict[str, dict[int, Record]] = {}
    for record in sorted(records, key=lambda r: (r.provenance.finished, r.id)):
        found.setdefault(thing(record.cell), {})[record.cell.seed] = record
    return found


def _all_by_thing(records: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(thing(record.cell), []).append(record)
    return found


def _change(
    old: Mapping[int, Record], new: Mapping[int, Record], earlier: Sequence[Record], noises: ImageNoises
) -> Change:
    before, after = _in_order(old), _in_order(new)
    if not before or not after:
        return Change(("new",) if after else ("gone",), before, after)
    now, then = [r.status == "ok" for r in after], [r.status == "ok" for r in before]
    kinds: list[Kind] = []
    if not all(now) and all(then):
        kinds.append("failed")
    if all(now) and not all(then):
        kinds.append("mended")
    metric, score = _score(old, new, noises)
    if score is not None and score.verdict != "not separated":
        kinds.append("score")
    seconds, mib = _seconds(after, earlier), _mib(before, after)
    if seconds is not None and _moved(seconds, _time_noise(after, earlier), LEAST_SECONDS):
        kinds.append("time")
    if mib is not None and _moved(mib, MEMORY_NOISE, LEAST_MIB):
        kinds.append("memory")
    return Change(tuple(kinds) or ("same",), before, after, metric, score, seconds, mib)


def _in_order(records: Mapping[int, Record]) -> tuple[Record, ...]:
    return tuple(records[seed] for seed in sorted(records))


def _score(
    old: Mapping[int, Record], new: Mapping[int, Record], noises: ImageNoises
) -> tuple[Metric | None, Difference | None]:
    """Return the paired difference, new less old, over the seeds that both have on the same data."""
    metrics = next((r.metrics for r in new.values() if r.metrics), ())
    if not metrics:
        return None, None
    metric = ranking(metrics)
    return metric, difference(_draws(new, metric, noises), _draws(old, metric, noises))


def _draws(records: Mapping[int, Record], metric: Metric, noises: ImageNoises) -> dict[int, Draw]:
    found = {}
    for seed, record in records.items():
        noise = noises.of(record).get(metric.name) if record.status == "ok" else None
        if noise is not None:
            found[seed] = Draw(record.scores[metric.name], noise)
    return found


def _machine(record: Record) -> tuple[str, str, int]:
    return record.provenance.host, record.provenance.device, record.provenance.threads


def _times_before(after: Sequence[Record], earlier: Sequence[Record]) -> list[float]:
    """Return what quantising took earlier on the machine of the new records."""
    here, known = {_machine(record) for record in after}, {id(record) for record in after}
    same = {(r.id, r.provenance.started): r for r in earlier if _machine(r) in here and id(r) not in known}
    return [record.costs.quantise_s for record in same.values() if record.costs is not None]


def _seconds(after: Sequence[Record], earlier: Sequence[Record]) -> tuple[float, float] | None:
    now = [record.costs.quantise_s for record in after if record.costs is not None]
    before = _times_before(after, earlier)
    return (statistics.median(before), statistics.median(now)) if before and now else None


def _time_noise(after: Sequence[Record], earlier: Sequence[Record]) -> float:
    """Return the factor by which a time may differ from the earlier ones without meaning anything."""
    before = _times_before(after, earlier)
    if len(before) < FEW_TIMES:
        return UNKNOWN_NOISE
    middle = statistics.median(before)
    return max(LEAST_NOISE, 1.1 * max(before) / middle) if middle > 0 else UNKNOWN_NOISE


def _mib(before: Sequence[Record], after: Sequence[Record]) -> tuple[float, float] | None:
    """Return the peak of the device, or of the host where there is none, before and after on one kind of machine."""
    if {_machine(record)[1] for record in before} != {_machine(record)[1] for record in after}:
        return None
    old, new = _peaks(before), _peaks(after)
    return (max(old), max(new)) if old and new else None


def _peaks(records: Sequence[Record]) -> list[float]:
    costs = [record.costs for record in records if record.costs is not None]
    return [c.peak_host_mib if c.peak_device_mib is None else c.peak_device_mib for c in costs]


def _moved(pair: tuple[float, float], noise: float, least: float) -> bool:
    before, after = pair
    return abs(after - before) >= least and (after > before * noise or after * noise < before)
