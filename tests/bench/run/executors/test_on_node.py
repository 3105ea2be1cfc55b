"""One cell on a node, in a real worker process: with a results folder in sight, and without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.bench.conftest import SUITE, TINY
from vitptq.bench import registry
from vitptq.bench.results import suites
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.store import Store
from vitptq.bench.run.executors.on_node import Answer, Desk, Errand
from vitptq.bench.run.plan import Plan
from vitptq.bench.source_hash import code_hash

MARK = ".ray-mark"


@pytest.fixture(scope="module")
def tiny_cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cell]]:
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(SUITE)
    with registry.temporary():
        registry.add_file(TINY)
        yield suites.load(str(path))


@pytest.fixture(scope="module")
def errand(tiny_cells: list[Cell], tmp_path_factory: pytest.TempPathFactory) -> Errand:
    plan = Plan(tmp_path_factory.mktemp("results"), "cpu")
    adapters = {"/not/on/this/node/tiny_task.py": TINY.read_bytes()}
    return Errand(tiny_cells[1], plan, MARK, code_hash(), adapters=adapters)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


@pytest.fixture(scope="module")
def sent(desk: Desk, errand: Errand) -> Answer:
    """What a node sends that does not see the results folder, and knows of no float record."""
    return desk.run(errand)


def test_a_node_that_does_not_see_the_results_sends_records_and_evidence(
    sent: Answer, errand: Errand, tiny_cells: list[Cell]
) -> None:
    assert sent.measured
    assert not sent.problem
    assert {record.cell.method for record in sent.records} == {"float", "minmax"}
    assert set(sent.evidence) == {f"{tiny_cells[0].id}.npz", f"{errand.cell.id}.npz"}
    assert not list(errand.plan.results.iterdir())


def test_a_node_measures_no_float_cell_that_it_is_told_of(
    desk: Desk, errand: Errand, sent: Answer, tiny_cells: list[Cell]
) -> None:
    reference = next(record for record in sent.records if record.cell.is_float)
    answer = desk.run(replace(errand, cell=tiny_cells[2], known=(reference,)))
    assert [record.cell for record in answer.records] == [tiny_cells[2]]
    assert set(answer.evidence) == {f"{tiny_cells[2].id}.npz"}


def test_a_node_that_sees_the_results_writes_there(desk: Desk, errand: Errand, sent: Answer) -> None:
    (errand.plan.results / MARK).touch()
    answer = desk.run(errand)
    assert answer == Answer(measured=True)
    record = Store(errand.plan.results).record(errand.cell)
    assert record is not None
    assert record.result() == next(r for r in sent.records if r.id == errand.cell.id).result()


def test_a_node_with_other_code_measures_nothing(desk: Desk, errand: Errand) -> None:
    answer = desk.run(replace(errand, code="other"))
    assert not answer.measured
    assert "other code of vitptq" in answer.problem
