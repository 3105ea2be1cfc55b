"""The records of a comparison, read whole, and how their scores vary with the images, each from its own folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vitptq.bench.board.image_noise import ImageNoise
from vitptq.bench.board.stored_noise import StoredNoise
from vitptq.bench.errors import BadInput
from vitptq.bench.results.history import History, Measured
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import Store


class WholeRecords:
    """Reads records and remembers where each is from: one cell may lie in several folders, with other evidence."""

    def __init__(self) -> None:
        self._stores: dict[tuple[str, str], Store] = {}
        self._noises: dict[Path, StoredNoise] = {}
        self.problems: list[str] = []
        """One sentence for each record that cannot be read."""

    def read(self, history: History, measured: Iterable[Measured]) -> list[Record]:
        """Return those records of a folder that can be read."""
        found = []
        for each in measured:
            try:
                record = history.record(each)
            except BadInput as error:
                self.problems.append(str(error))
                continue
            self._stores[_key(record)] = history.store(each)
            found.append(record)
        return found

    def of(self, record: Record) -> Mapping[str, ImageNoise]:
        """Return the noise of each score of a record that was read here."""
        store = self._stores[_key(record)]
        if store.root not in self._noises:
            self._noises[store.root] = StoredNoise(store)
        return self._noises[store.root].of(record)


def _key(record: Record) -> tuple[str, str]:
    return record.id, record.provenance.finished
