"""What is known of a table's scores: which one ranks, their titles, whether they are shares of the images.

Records hold what their task declares, so that a board needs no task. Records older than that have the installed task's
word, and where the task is not installed, a score is known by its name alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vitptq.bench.contracts.task import Metric, ranking
from vitptq.bench.results.record import Record

Declared = Mapping[tuple[str, str], Sequence[Metric]]
"""The metrics of the installed tasks, by task and edition."""

UNNAMED = Metric("", "Score", ranks=True)
"""Stands where nothing was ever scored."""


def needs_tasks(records: Iterable[Record]) -> bool:
    """Tell whether some record has scores of which only its task can say more."""
    return any(record.scores and not record.metrics for record in records)


def table_metrics(newest_first: Sequence[Record], declared: Sequence[Metric] = ()) -> tuple[Metric, ...]:
    """Return the metrics that the records of one table have scores of, the ranking one first. Never empty.

    The newest record that holds its task's metrics speaks for all; without one `declared` does.
    """
    known = next((record.metrics for record in newest_first if record.metrics), tuple(declared))
    names = dict.fromkeys(name for record in newest_first for name in record.scores)
    unknown = tuple(Metric(name, name) for name in names if name not in {metric.name for metric in known})
    if not known and not unknown:
        return (UNNAMED,)
    first = ranking((*known, *unknown))
    return (first, *(metric for metric in (*known, *unknown) if metric.name in names and metric is not first))


def ranked_by(metrics: Sequence[Metric], name: str) -> tuple[Metric, ...]:
    """Return a table's metrics with the one called `name` first; as they are where it is empty or not there."""
    return tuple(sorted(metrics, key=lambda metric: metric.name != name))


def secondary(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """Return those of a table's metrics that every table and export shows beside the first, which ranks."""
    return tuple(metric for metric in metrics[1:] if not metric.detail)
