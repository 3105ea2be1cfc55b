"""Suites: what they load, filters and shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.record_factory import make_cell
from vitptq.bench import registry
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.results import suites
from vitptq.bench.results.cell import Cell


@given(st.integers(1, 7), st.sets(st.integers(0, 1000), max_size=40))
def test_shards_are_disjoint_and_complete(parts: int, seeds: set[int]) -> None:
    cells = [make_cell(seed=seed) for seed in seeds]
    shards = [suites.shard(cells, f"{i + 1}/{parts}") for i in range(parts)]
    assert sorted(c.id for shard in shards for c in shard) == sorted(c.id for c in cells)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_bad_shard_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not I/N"):
        suites.shard([make_cell()], text)


def test_filter_keeps_the_float_cell_of_what_it_selects(cells: list[Cell]) -> None:
    kept = suites.select(cells, ["method=minmax", "bits=W4A4"])
    assert [(c.method, c.bits) for c in kept] == [("float", "W32A32"), ("minmax", "W4A4")]


def test_family_filter_knows_a_cards_groups(tiny: None, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("""title = "t"
[[cells]]
task = "tiny"
edition = "test"
models = ["vit", "swin"]
methods = ["minmax"]
bits = ["W8A8"]
""")
    cells = suites.load(str(path))
    grouped = suites.select(cells, ["family=windowed"])
    assert [(c.model, c.method) for c in grouped] == [("swin", "float"), ("swin", "minmax")]
    assert grouped == suites.select(cells, ["family=swin"])
    assert suites.select(cells, ["family=vit,windowed"]) == cells
    with pytest.raises(UnknownName, match='unknown family in this suite "hybrid"; known: swin, vit, windowed'):
        suites.select(cells, ["family=hybrid"])


def test_unknown_filter_key_names_the_nearest(cells: list[Cell]) -> None:
    with pytest.raises(UnknownName, match='did you mean "method"'):
        suites.select(cells, ["metod=minmax"])


def test_filter_without_a_match_says_so(cells: list[Cell]) -> None:
    with pytest.raises(BadInput, match="no cell of this suite matches"):
        suites.select(cells, ["method=float", "bits=W4A4"])
    with pytest.raises(UnknownName, match='unknown method in this suite "minmux"; known: .*did you mean "minmax"'):
        suites.select(cells, ["method=minmax,minmux"])


def test_filter_by_the_number_of_calibration_images(tiny: None, tmp_path: Path) -> None:
    group = '[[cells]]\ntask = "tiny"\nedition = "test"\nmodels = ["vit"]\nmethods = ["minmax"]\nbits = ["W8A8"]\n'
    path = tmp_path / "s.toml"
    path.write_text(f'title = "t"\n{group}{group}calibration_size = 64\n')
    kept = suites.select(suites.load(str(path)), ["calibration_size=64"])
    assert [(cell.method, cell.calibration_size) for cell in kept] == [("float", 0), ("minmax", 64)]


def test_filter_by_the_beginning_of_an_id(cells: list[Cell]) -> None:
    assert [cell.id for cell in suites.select(cells, [f"id={cells[-1].id[:16]}"])] == [cells[0].id, cells[-1].id]


def test_unknown_suite_method_and_model_name_the_known_ones(tiny: None, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match='unknown suite "quik"; known: .*did you mean "quick"'):
        suites.load("quik")
    path = tmp_path / "s.toml"
    text = 'title="t"\n[[cells]]\ntask="tiny"\nedition="test"\nmodels=["vti"]\nmethods=["minmax"]\nbits=["W4A4"]\n'
    path.write_text(text)
    with pytest.raises(UnknownName, match='did you mean "vit"'):
        suites.load(str(path))
    path.write_text(text.replace("vti", "vit").replace("minmax", "minmaxx"))
    with pytest.raises(UnknownName, match='did you mean "minmax"'):
        suites.load(str(path))
    path.write_text(text + "seedz=[1]\n")
    with pytest.raises(BadInput, match="seedz"):
        suites.load(str(path))


def test_float_cells_come_first(cells: list[Cell]) -> None:
    assert cells[0].is_float
    assert not any(cell.is_float for cell in cells[1:])


@pytest.mark.parametrize("name", sorted(suites.names()))
def test_every_shipped_suite_loads(name: str) -> None:
    cells = suites.load(name)
    assert len({cell.id for cell in cells}) == len(cells) > 1


def test_methods_of_a_row_share_their_calibration_lists() -> None:
    cells = [cell for cell in suites.load("mini") if cell.calibration_size]  # neither float nor data-free
    draws = {(cell.task, cell.calibration_size, cell.seed) for cell in cells}
    lists = {(c.task, c.calibration_size, c.seed, c.calibration_list) for c in cells}
    assert {seed for _, _, seed in draws} == {0, 1, 2}
    assert len(lists) == len(draws)


GROUP = '[[cells]]\ntask = "tiny"\nedition = "test"\nmodels = ["vit"]\nmethods = ["minmax"]\nbits = ["{}"]\n'


def test_a_suite_takes_in_others_and_each_cell_once(tiny: None, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner.toml", tmp_path / "outer.toml"
    inner.write_text('title = "i"\n' + GROUP.format("W8A8"))
    outer.write_text(f'title = "o"\ninclude = ["{inner}"]\n' + GROUP.format("W8A8") + GROUP.format("W4A4"))
    assert [cell.bits for cell in suites.load(str(outer))] == ["W32A32", "W8A8", "W4A4"]
    assert suites.files_of(str(outer)) == [outer, inner]


def test_a_suite_that_includes_itself_or_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(f'title = "s"\ninclude = ["{path}"]\n')
    with pytest.raises(BadInput, match=r"includes itself, by way of .*s.toml"):
        suites.load(str(path))
    path.write_text('title = "s"\n')
    with pytest.raises(BadInput, match="nothing to include"):
        suites.load(str(path))


def test_suites_of_papers_are_listed_under_papers_and_settings_are_no_suites() -> None:
    assert "papers/aphq-vit-imagenet" in suites.names()
    assert not any("settings" in name for name in suites.names())


def test_another_method_does_not_inherit_the_parameters_of_a_group(tiny: None, tmp_path: Path) -> None:
    path = tmp_path / "parameters.toml"
    group = '[[cells]]\ntask = "tiny"\nedition = "test"\nmodels = ["vit"]\nbits = ["W4A4"]\n'
    path.write_text(
        f'title = "two"\n{group}methods = ["ema"]\n{group}methods = ["minmax"]\nparameters = {{ w_symmetric = true }}\n'
    )
    assert [cell.method for cell in suites.load(str(path), ["percentile"])] == ["float", "percentile"]
    both = [cell.parameters for cell in suites.load(str(path), ["minmax"]) if not cell.is_float]
    assert [parameters["w_symmetric"] for parameters in both] == [False, True]


def test_a_suite_may_set_what_changes_no_result(tiny: None, tmp_path: Path) -> None:
    adapter = tmp_path / "budgeted.py"
    adapter.write_text(BUDGETED)
    path = tmp_path / "s.toml"
    group = f'[[cells]]\ntask = "tiny"\nedition = "test"\nmodels = ["vit"]\nmethods = ["{adapter}"]\nbits = ["W4A4"]\n'
    path.write_text(f'title = "t"\n{group}parameters = {{ memory_mb = 8, rate = 0.5 }}\n')
    cell = suites.load(str(path))[-1]
    assert (cell.parameters, cell.run_time) == ({"rate": 0.5}, {"memory_mb": 8})


def test_two_settings_for_one_cell_are_refused(tiny: None, tmp_path: Path) -> None:
    adapter = tmp_path / "budgeted.py"
    adapter.write_text(BUDGETED)
    path = tmp_path / "s.toml"
    group = f'[[cells]]\ntask = "tiny"\nedition = "test"\nmodels = ["vit"]\nmethods = ["{adapter}"]\nbits = ["W4A4"]\n'
    path.write_text(f'title = "t"\n{group}{group}parameters = {{ memory_mb = 8 }}\n')
    with pytest.raises(BadInput, match=r'with \{"memory_mb":4096\} and again with \{"memory_mb":8\}'):
        suites.load(str(path))


BUDGETED = """
from dataclasses import dataclass
from vitptq import Method, run_time
@dataclass(frozen=True)
class Budgeted(Method):
    "Planted."
    name, title, fidelity = "budgeted", "Budgeted", "paper"
    rate: float = 0.1
    memory_mb: int = run_time(4096)
    def quantize(self, model, calibration, bits):
        return model
"""


def test_methods_that_replace_others_are_asked_for_what_their_category_does() -> None:
    dense, low_rank = (suites.load("low-rank", [name]) for name in ("minmax", "svd"))
    assert not [cell for cell in dense if not cell.is_float]
    assert {cell.bit_spec.removed for cell in low_rank if not cell.is_float} == {20, 40, 60}


@pytest.mark.parametrize(
    ("method", "bits", "words"),
    [
        ("svd", "W8A8", "such as W8A8\\+lowrank60"),
        ("minmax", "W8A8+lowrank60", "makes no low-rank factors; give it W8A8"),
    ],
)
def test_specs_of_another_category_are_refused(method: str, bits: str, words: str) -> None:
    group = suites.Group(task="imagenet", edition="mini", models=["mini_vit"], methods=[method], bits=[bits])
    with pytest.raises(BadInput, match=words):
        suites.expand(group)


def test_a_task_is_asked_once_for_each_list_however_many_cells_have_it(
    tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = registry.task("tiny", "test")
    asked: list[tuple[int, int]] = []
    names = type(task).calibration_names

    def counted(self: object, size: int, seed: int) -> object:
        asked.append((size, seed))
        return names(self, size, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(type(task), "calibration_names", counted)
    group = suites.Group(
        task="tiny", edition="test", models=["vit", "swin"], methods=["minmax", "omse"], bits=["W8A8"], seeds=[0, 1]
    )
    assert len(suites.expand(group)) == 10
    assert sorted(asked) == [(32, 0), (32, 1)]
