"""The lines of a results folder: read once, kept, and read again where a file changed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.record_factory import make_cell, make_provenance, make_record
from vitptq.bench.results import history
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.history import EARLIER, History, newest, thing
from vitptq.bench.results.record import Failure, Record
from vitptq.bench.results.store import Store


def on_day(day: int, cell=None, **changes) -> Record:
    moment = f"2026-12-{day:02}T00:00:00Z"
    commit = changes.pop("commit", "0" * 40)
    return make_record(cell, provenance=make_provenance(started=moment, finished=moment, commit=commit), **changes)


def kept(folder: Path, *records: Record) -> History:
    for record in records:
        Store(folder).add(record)
    return History.read(folder)


def test_line_says_what_the_record_says(tmp_path):
    record = on_day(1, score=81.5, commit="abc1234" + "0" * 33)
    (line,) = kept(tmp_path, record).measured
    assert (line.id, line.seed, line.score, line.metric) == (record.id, 0, 81.5, "Top-1 accuracy")
    assert line.version == "abc1234"
    assert line.quantise_s == record.costs.quantise_s
    assert line.thing == thing(record.cell)
    assert line.counts


def test_cells_of_other_code_data_and_seed_are_one_thing():
    changes = ({}, {"source": sha256(b"x")}, {"data": "2"}, {"seed": 1})
    assert len({thing(make_cell(**change)) for change in changes}) == 1
    assert thing(make_cell(bits="W3A3")) != thing(make_cell())


def test_known_records_are_not_read_again(tmp_path, monkeypatch):
    first = kept(tmp_path, on_day(1), on_day(2, make_cell(seed=1)))
    monkeypatch.setattr(history, "from_json", _only_the_index(history.from_json))
    assert History.read(tmp_path) == first
    assert first.refreshed() == first


def _only_the_index(read):
    def checked(data, **options):
        found = read(data, **options)
        assert "provenance" not in found, "a record was read"
        return found

    return checked


def test_changed_record_is_read_again(tmp_path):
    before = kept(tmp_path, on_day(1, failure="raised"))
    after = kept(tmp_path, on_day(2))
    assert before.measured[0].failure == "raised: raised on purpose"
    assert [line.failure for line in after.measured] == [""]


def test_record_that_was_moved_away_is_forgotten(tmp_path):
    found = kept(tmp_path, on_day(1), on_day(2, make_cell(seed=1)))
    (Store(tmp_path).records_dir / f"{found.measured[0].id}.json").unlink()
    assert History.read(tmp_path).measured == found.measured[1:]


def test_records_of_earlier_environments_are_part_of_it_and_are_not_current(tmp_path):
    Store(tmp_path / EARLIER / "old").add(on_day(1, score=70.0))
    found = kept(tmp_path, on_day(2, score=80.0))
    assert [line.folder for line in found.measured] == ["old", ""]
    assert [line.score for line in found.current.values()] == [80.0]
    assert found.record(found.measured[0]).scores == {"top1": 70.0}


def test_broken_record_is_named_and_the_others_are_read(tmp_path):
    broken = tmp_path / "records" / f"{'0' * 64}.json"
    broken.parent.mkdir(parents=True)
    for content in ("{", "[]", '{"id": 3}', json.dumps({"id": "0" * 64, "cell": {}, "provenance": {}})):
        broken.write_text(content)
        found = kept(tmp_path) if content != "{" else kept(tmp_path, on_day(1))
        assert len(found.measured) == 1
        assert str(broken) in found.problems[0]


def test_broken_index_costs_nothing_but_time(tmp_path):
    found = kept(tmp_path, on_day(1))
    for content in (b"", b"{}", b'{"fields": [], "things": {}}', b"\xff"):
        (tmp_path / ".cache" / "history.json").write_bytes(content)
        assert History.read(tmp_path) == found


def test_first_failure_is_that_of_the_first_attempt(tmp_path):
    tried = (Failure(kind="raised", message="before", started="2026-11-30T00:00:00Z"),)
    (line,) = kept(tmp_path, on_day(1, failure="raised", earlier=tried)).measured
    assert line.first_failed == "2026-11-30T00:00:00Z"


def test_newest_is_the_last_of_each_seed(tmp_path):
    changed = make_cell(source=sha256(b"changed"))
    found = kept(tmp_path, on_day(1), on_day(2, changed), on_day(1, make_cell(seed=1)))
    assert {(line.seed, line.id == changed.id) for line in newest(found.measured)} == {(0, True), (1, False)}
