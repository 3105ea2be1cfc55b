"""Cells: identity from content, bit specs, filters and shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.results import suites
from vitptq.bench.results.cell import Cell, labels


def make(**changes: object) -> Cell:
    base: dict[str, object] = {
        "task": "t", "edition": "e", "data": "d", "model": "m", "checkpoint": "c", "method": "x", "source": "s",
        "parameters": {}, "bits": "W4A4", "track": "standard", "seed": 0, "calibration_size": 32,
        "calibration_list": "l",
    }  # fmt: skip
    return Cell.model_validate(base | changes)


def test_cells_of_one_name_are_told_apart_by_the_parameters_in_which_they_differ() -> None:
    cells = [make(parameters={"images": "noise", "cycles": n, "rate": 0.1}) for n in (1, 3)] + [make(bits="W8A8")]
    assert list(labels(cells).values()) == [
        "t/e m x W4A4 seed 0 cycles=1", "t/e m x W4A4 seed 0 cycles=3", "t/e m x W8A8 seed 0",
    ]  # fmt: skip


@given(st.text(), st.text())
def test_cells_with_different_content_have_different_ids(a: str, b: str) -> None:
    assert (make(model=a).id == make(model=b).id) == (a == b)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans(), min_size=2))
def test_id_does_not_depend_on_the_order_of_parameters(parameters: dict[str, object]) -> None:
    assert make(parameters=parameters).id == make(parameters=dict(reversed(parameters.items()))).id


def test_parameters_that_look_alike_as_text_are_different_cells() -> None:
    assert len({make(parameters={"p": value}).id for value in ([1.5], [1, 5], "1.5", 1.5)}) == 4


@pytest.mark.parametrize("text", ["W4", "4A4", "W4A4 ", "W1A4", "W4A9", "W16A16", ""])
def test_bad_bit_spec_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        BitSpec.parse(text)


@given(st.integers(1, 7), st.sets(st.integers(0, 1000), max_size=40))
def test_shards_are_disjoint_and_complete(parts: int, seeds: set[int]) -> None:
    cells = [make(seed=seed) for seed in seeds]
    shards = [suites.shard(cells, f"{i + 1}/{parts}") for i in range(parts)]
    assert sorted(c.id for shard in shards for c in shard) == sorted(c.id for c in cells)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_bad_shard_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="is not I/N"):
        suites.shard([make()], text)


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
    with pytest.raises(BadInput, match="no cell of the suite matches"):
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


def test_another_method_does_not_inherit_the_parameters_of_a_group(tiny: None, tmp_path: Path) -> None:
    path = tmp_path / "parameters.toml"
    group = '[[cells]]\ntask = "tiny"\nedition = "test"\nmodels = ["vit"]\nbits = ["W4A4"]\n'
    path.write_text(
        f'title = "two"\n{group}methods = ["ema"]\n{group}methods = ["minmax"]\nparameters = {{ w_symmetric = true }}\n'
    )
    assert [cell.method for cell in suites.load(str(path), ["percentile"])] == ["float", "percentile"]
    both = [cell.parameters for cell in suites.load(str(path), ["minmax"]) if not cell.is_float]
    assert [parameters["w_symmetric"] for parameters in both] == [False, True]
