"""One night: its lock, when it began (also after a kill), the records of before, and the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from vitptq.bench.board.image_noise import ImageNoise, ImageNoises
from vitptq.bench.board.stored_noise import StoredNoise
from vitptq.bench.errors import BadInput
from vitptq.bench.files import write_atomically
from vitptq.bench.nightly.changes import changes, thing
from vitptq.bench.nightly.report import Report, as_html, as_markdown
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify

STATE, REPORTS, EARLIER = ".nightly", "nights", "earlier"


class AlreadyRunning(BadInput):
    """Another night is at work in this results folder."""


class Night:
    """A nightly run in one results folder; a killed one is gone on with."""

    def __init__(self, results: Path) -> None:
        self.store = Store(results)
        self._state = results / STATE
        self.started = ""

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder's night lock; AlreadyRunning where somebody else has it."""
        self._state.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._state / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise AlreadyRunning(f"another night is at work in {self.store.root}; this one leaves it alone") from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, now: str) -> bool:
        """Remember when the night began; tell whether it goes on with one that was cut off."""
        path = self._state / "current.json"
        if path.is_file():
            self.started = str(json.loads(path.read_text(encoding="utf-8"))["started"])
            return True
        self.started = now
        write_atomically(path, json.dumps({"started": now}).encode())
        return False

    def records(self) -> list[Record]:
        """Return every readable record, those of earlier environments included."""
        return [record for store in self._stores() for record in store.readable()]

    def retire(self, records: Iterable[Record]) -> None:
        """Put records of another environment aside, so that their cells are measured again; nothing is lost."""
        for record in records:
            folder = self.store.root / EARLIER / record.provenance.environment
            for part in ("records", "evidence"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            if record.evidence is not None:
                evidence = self.store.evidence_dir / record.evidence.file
                if evidence.is_file():
                    shutil.copy2(evidence, folder / "evidence" / record.evidence.file)
            name = f"{record.id}.json"
            (self.store.records_dir / name).replace(folder / "records" / name)

    def report(self, title: str, notes: Sequence[str] = ()) -> Report:
        """Compare what this night measured with what was known before."""
        known = self.records()
        new = [r for r in known if r.provenance.finished >= self.started]
        touched = {thing(record.cell) for record in new}
        old = [r for r in known if r.provenance.finished < self.started and thing(r.cell) in touched]
        found = changes(old, new, EveryNoise(map(StoredNoise, self._stores())), known)
        problems = self._problems([r for r in new if r.status == "ok"])
        return Report(title, tuple(found), len(touched) - len(found), (*notes, *problems))

    def finish(self, report: Report) -> Path:
        """Write the report, forget the night and return the Markdown file."""
        folder = self.store.root / REPORTS
        folder.mkdir(parents=True, exist_ok=True)
        name = datetime.fromisoformat(self.started.replace("Z", "+00:00")).astimezone(UTC).strftime("%Y-%m-%d-%H%M%S")
        write_atomically(folder / f"{name}.html", as_html(report).encode())
        path = folder / f"{name}.md"
        write_atomically(path, as_markdown(report).encode())
        (self._state / "current.json").unlink(missing_ok=True)
        return path

    def _stores(self) -> list[Store]:
        return [self.store, *map(Store, sorted((self.store.root / EARLIER).glob("*")))]

    def _problems(self, new: Sequence[Record]) -> Iterator[str]:
        """Yield what verification finds in the new records."""
        own = {record.id for record in new}
        floats = {record.gate.float_cell for record in new if record.gate is not None}
        needed = [record for record in self.store.readable() if record.id in own | floats]
        for verdict in verify(self.store, needed):
            if verdict.record.id in own:
                yield from (f"verification: {verdict.record.cell.label()}: {problem}" for problem in verdict.problems)


class EveryNoise:
    """Image noise of records that lie in several folders."""

    def __init__(self, noises: Iterable[ImageNoises]) -> None:
        self._noises = tuple(noises)

    def of(self, record: Record) -> Mapping[str, ImageNoise]:
        """Return the noise of each score from the first of the folders that has the record's evidence."""
        return next((found for noises in self._noises if (found := noises.of(record))), {})
