"""One night: its lock, when it began (also after a kill), the records of before, and the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from vitptq.bench.errors import BadInput
from vitptq.bench.files import shown, write_atomically
from vitptq.bench.nightly.changes import changes
from vitptq.bench.nightly.failing import failing
from vitptq.bench.nightly.report import Report, failing_lines, lines_of
from vitptq.bench.nightly.report_text import as_markdown
from vitptq.bench.nightly.whole_records import WholeRecords
from vitptq.bench.results.history import EARLIER, History, Measured, newest
from vitptq.bench.results.record import Record
from vitptq.bench.results.record_file import read_record
from vitptq.bench.results.store import Store
from vitptq.bench.results.verify import verify

STATE, REPORTS = ".nightly", "nights"


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
        """Hold the folder's night lock; AlreadyRunning where somebody else has it, BadInput where none can be had."""
        lock = FileLock(self._state / "lock", timeout=0)
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise AlreadyRunning(f"another night is at work in {self.store.root}; this one leaves it alone") from None
        except (OSError, NotImplementedError) as error:
            why = getattr(error, "strerror", "") or error
            raise BadInput(
                f"no night can begin in {shown(self.store.root)}: {why}; name another with --results"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, now: str) -> bool:
        """Remember when the night began; tell whether it goes on with one that was cut off."""
        path = self._state / "current.json"
        begun = _begun(path)
        self.started = begun or now
        if not begun:
            write_atomically(path, json.dumps({"started": now}).encode())
        return bool(begun)

    def retire(self, measured: Iterable[Measured]) -> None:
        """Put records of another environment aside, so that their cells are measured again; nothing is lost."""
        for each in measured:
            name = f"{each.id}.json"
            folder = self._free_folder(each.environment, name)
            for part in ("records", "evidence"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            for evidence in self._evidence(self.store.records_dir / name):
                shutil.copy2(evidence, folder / "evidence" / evidence.name)
            (self.store.records_dir / name).replace(folder / "records" / name)

    def report(self, title: str, history: History, things: Collection[str] = (), notes: Sequence[str] = ()) -> Report:
        """Compare what this night measured with what was known before.

        `things` are those whose failures are told, with those that were measured.
        """
        new = newest(each for each in history.measured if each.finished >= self.started)
        touched = {each.thing for each in new}
        before = newest(each for each in history.measured if each.finished < self.started and each.thing in touched)
        whole = WholeRecords()
        old_records, new_records = whole.read(history, before), whole.read(history, new)
        found = changes(old_records, new_records, whole, history.measured)
        asked = touched | set(things)
        return Report(
            title=title,
            lines=lines_of(found),
            unchanged=len(touched) - len(found),
            failing=failing_lines(failing(each for each in history.measured if each.thing in asked)),
            notes=(*notes, *history.problems, *whole.problems),
            problems=tuple(self._problems(new_records, history)),
        )

    def finish(self, report: Report) -> Path:
        """Write the report as Markdown and as data, forget the night and return the Markdown file."""
        folder = self.store.root / REPORTS
        name = _moment(self.started).strftime("%Y-%m-%d-%H%M%S")
        write_atomically(folder / f"{name}.json", (report.model_dump_json(indent=1) + "\n").encode())
        path = folder / f"{name}.md"
        write_atomically(path, as_markdown(report).encode())
        (self._state / "current.json").unlink(missing_ok=True)
        return path

    def _free_folder(self, environment: str, name: str) -> Path:
        """Return where a record is kept: an environment that comes back twice has a second folder."""
        folder, number = self.store.root / EARLIER / environment, 1
        while (folder / "records" / name).exists():
            number += 1
            folder = folder.with_name(f"{environment}-{number}")
        return folder

    def _evidence(self, path: Path) -> list[Path]:
        """Return the files that belong to a record."""
        try:
            record = read_record(path)
        except BadInput:
            return []
        gate = record.gate.evidence if record.gate else None
        refs = [record.evidence, gate, *record.details.method.images.values()]
        files = [self.store.evidence_dir / ref.file for ref in refs if ref is not None]
        return [file for file in files if file.is_file()]

    def _problems(self, new: Sequence[Record], history: History) -> Iterator[str]:
        """Yield what verification finds in the new records."""
        own = {record.id for record in new if record.status == "ok"}
        floats = {record.gate.float_cell for record in new if record.gate is not None} - own
        current = history.current
        references = WholeRecords().read(history, [current[cell] for cell in floats if cell in current])
        for verdict in verify(self.store, [*new, *references]):
            if verdict.record.id in own:
                yield from (f"verification: {verdict.record.cell.label()}: {problem}" for problem in verdict.problems)


def _begun(path: Path) -> str:
    """Return when the night began that was cut off; empty where none was, or the file does not say so."""
    try:
        started = str(json.loads(path.read_text(encoding="utf-8"))["started"])
        _moment(started)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return started


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
