"""What became of each thing that was measured twice: its score on the same images, its time and memory."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vitptq.bench.board.image_noise import ImageNoises
from vitptq.bench.board.paired_difference import Difference, Draw, difference
from vitptq.bench.contracts.task import Metric, ranking
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.history import Measured, thing
from vitptq.bench.results.record import Record

Kind = Literal["failed", "score", "time", "memory", "mended", "new", "gone", "same"]
KINDS: tuple[Kind, ...] = ("failed", "score", "time", "memory", "mended", "new", "gone", "same")
"""In the order of a report."""
FEW_TIMES = 4
"""With fewer earlier times their spread says little, and `UNKNOWN_NOISE` stands for it."""
UNKNOWN_NOISE = 1.5
LEAST_NOISE = 1.25
"""Times of one machine differ by a quarter from day to day."""
RECENT = 20
"""How many of the last times of a machine tell what is usual there: what was mended long ago counts no more."""
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
    def thing(self) -> str:
        """Return what was asked for."""
        return thing(self.cell)

    @property
    def worse(self) -> bool:
        """Tell whether this is a regression: a failure, a lower score, more time or memory beyond what varies."""
        lower = "score" in self.kinds and self.score is not None and self.score.points < 0
        slower = "time" in self.kinds and self.seconds is not None and self.seconds[1] > self.seconds[0]
        larger = "memory" in self.kinds and self.mib is not None and self.mib[1] > self.mib[0]
        return "failed" in self.kinds or lower or slower or larger


def changes(
    old: Iterable[Record], new: Iterable[Record], noises: ImageNoises, history: Iterable[Measured] = ()
) -> list[Change]:
    """Return what differs between two states, regressions first; what stayed the same is left out.

    `history` is all that was measured, in the order of time, for how much times on one machine vary.
    """
    before, after = _by_thing(old), _by_thing(new)
    earlier = _times_by_thing(history, {_attempt(record) for seeds in after.values() for record in seeds.values()})
    found = []
    for key in sorted(before.keys() | after.keys()):
        change = _change(before.get(key, {}), after.get(key, {}), earlier.get(key, {}), noises)
        if change.kinds != ("same",):
            found.append(change)
    return sorted(found, key=lambda c: (not c.worse, KINDS.index(c.kinds[0]), _size(c), c.cell.label()))


def _size(change: Change) -> float:
    return change.score.points if change.score else 0.0


def _by_thing(records: Iterable[Record]) -> dict[str, dict[int, Record]]:
    """Return the newest record of each seed of each thing."""
    found: dict[str, dict[int, Record]] = {}
    for record in sorted(records, key=lambda r: (r.provenance.finished, r.id)):
        found.setdefault(thing(record.cell), {})[record.cell.seed] = record
    return found


Machine = tuple[str, str, int]


def _attempt(record: Record) -> tuple[str, str]:
    return record.id, record.provenance.started


def _times_by_thing(
    history: Iterable[Measured], new: Collection[tuple[str, str]]
) -> dict[str, dict[Machine, list[float]]]:
    """Return what quantising each thing took on each machine, oldest first, the new records left out."""
    found: dict[str, dict[Machine, list[float]]] = {}
    for each in history:
        if each.quantise_s is not None and (each.id, each.started) not in new:
            found.setdefault(each.thing, {}).setdefault(each.machine, []).append(each.quantise_s)
    return found


def _change(
    old: Mapping[int, Record], new: Mapping[int, Record], times: Mapping[Machine, list[float]], noises: ImageNoises
) -> Change:
    before, after = _in_order(old), _in_order(new)
    if not before or not after:
        return Change(("new",) if after else ("gone",), before, after)
    if [_attempt(record) for record in before] == [_attempt(record) for record in after]:
        return Change(("same",), before, after)
    now, then = [r.status == "ok" for r in after], [r.status == "ok" for r in before]
    kinds: list[Kind] = []
    if not all(now) and all(then):
        kinds.append("failed")
    if all(now) and not all(then):
        kinds.append("mended")
    metric, score = _score(old, new, noises)
    if score is not None and score.verdict != "not separated":
        kinds.append("score")
    earlier = _recent(after, times)
    seconds, mib = _seconds(after, earlier), _mib(before, after)
    if seconds is not None and _moved(seconds, _time_noise(earlier), LEAST_SECONDS):
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


def _machine(record: Record) -> Machine:
    return record.provenance.host, record.provenance.device, record.provenance.threads


def _recent(after: Sequence[Record], times: Mapping[Machine, list[float]]) -> list[float]:
    """Return what quantising took lately on the machine of the new records."""
    return [
        seconds for machine in {_machine(record) for record in after} for seconds in times.get(machine, [])[-RECENT:]
    ]


def _seconds(after: Sequence[Record], earlier: Sequence[float]) -> tuple[float, float] | None:
    now = [record.costs.quantise_s for record in after if record.costs is not None]
    return (statistics.median(earlier), statistics.median(now)) if earlier and now else None


def _time_noise(earlier: Sequence[float]) -> float:
    """Return the factor by which a time may differ from the earlier ones without meaning anything."""
    if len(earlier) < FEW_TIMES:
        return UNKNOWN_NOISE
    middle = statistics.median(earlier)
    return max(LEAST_NOISE, 1.1 * max(earlier) / middle) if middle > 0 else UNKNOWN_NOISE


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
