"""Would a suite run tonight? All that is missing for it on this machine, the largest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitptq.bench import catalogue, registry
from vitptq.bench.contracts.task import Lack
from vitptq.bench.errors import VitptqError
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.run.devices import choose_devices
from vitptq.bench.run.disk_estimate import DiskEstimates, ImageRoom, free_at, size
from vitptq.bench.run.time_estimate import Estimates, clock


@dataclass(frozen=True)
class SuiteCheck:
    """What is missing, and what the run would take."""

    lacks: Sequence[Lack]
    """The largest first."""
    work: str
    """Cells, time and room in one sentence."""

    @property
    def fetched(self) -> int:
        """Return how many bytes are missing."""
        return sum(lack.bytes for lack in self.lacks)

    def lines(self) -> list[str]:
        """Return the report, one line each."""
        return [f"{size(lack.bytes) if lack.bytes else '-':>9}  {lack.text}" for lack in self.lacks]

    def summary(self, suite: str) -> str:
        """Answer the question."""
        if not self.lacks:
            return f"{suite} would run: {self.work}"
        things = "1 thing is" if len(self.lacks) == 1 else f"{len(self.lacks)} things are"
        fetched = f", about {size(self.fetched)}" if self.fetched else ""
        return f"{suite} would not run: {things} missing{fetched}; then {self.work}"


def check(cells: Sequence[Cell], records: Mapping[str, Record], results: Path) -> SuiteCheck:
    """Return what keeps the cells without a record from being measured here."""
    todo = [cell for cell in cells if cell.id not in records]
    families, images = catalogue.families(), catalogue.image_room(todo)
    disk = DiskEstimates(records.values(), results / "evidence", families)
    written = sum(disk.of(cell) for cell in todo)
    found = [*_lacks_of_tasks(todo), *_lacks_of_room(results, written, images)]
    estimates = Estimates(records.values(), families)
    known = [estimate.seconds for cell in todo if (estimate := estimates.of(cell)) is not None]
    devices = choose_devices("auto")
    where = f"{len(devices)} GPU" + "s" * (len(devices) > 1) if devices[0].type == "cuda" else "the CPU, no GPU is here"
    work = f"{len(todo)} cells, about {clock(sum(known) / len(devices))} on {where}; {size(written)} of results"
    room = f"; {images}" if str(images) else ""
    return SuiteCheck(sorted(found, key=lambda lack: -lack.bytes), work + room)


def _lacks_of_tasks(cells: Sequence[Cell]) -> list[Lack]:
    models: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells:
        models.setdefault((cell.task, cell.edition), {})[cell.model] = None
    found: dict[str, Lack] = {}
    for (name, edition), wanted in models.items():
        try:
            lacks = registry.task(name, edition).lacks(wanted)
        except VitptqError as error:
            lacks = [Lack(str(error))]
        found |= {lack.text: lack for lack in lacks}
    return list(found.values())


def _lacks_of_room(results: Path, written: float, images: ImageRoom) -> list[Lack]:
    wanted = [(results, written, "results", "--results names another place")]
    if images.place is not None:
        step = "VITPTQ_CACHE names another place, run --no-cache keeps none"
        wanted.append((images.place, images.bytes - images.there, "decoded images", step))
    found = []
    for place, needed, what, step in wanted:
        free = free_at(place)
        if free < needed:
            text = f"room for {what}: {size(needed)} are needed at {place}, {size(free)} are free; {step}"
            found.append(Lack(text, round(needed - free)))
    return found
