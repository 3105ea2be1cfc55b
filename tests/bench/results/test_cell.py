"""Cells: identity from content, and names for people."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.record_factory import make_cell
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
        "t/e m x W4A4 32 images seed 0 cycles=1", "t/e m x W4A4 32 images seed 0 cycles=3",
        "t/e m x W8A8 32 images seed 0",
    ]  # fmt: skip


@given(st.text(), st.text())
def test_cells_with_different_content_have_different_ids(a: str, b: str) -> None:
    assert (make(model=a).id == make(model=b).id) == (a == b)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans(), min_size=2))
def test_id_does_not_depend_on_the_order_of_parameters(parameters: dict[str, object]) -> None:
    assert make(parameters=parameters).id == make(parameters=dict(reversed(parameters.items()))).id


def test_parameters_that_look_alike_as_text_are_different_cells() -> None:
    assert len({make(parameters={"p": value}).id for value in ([1.5], [1, 5], "1.5", 1.5)}) == 4


def test_settings_that_change_no_result_are_no_part_of_the_id() -> None:
    assert make(run_time={"memory_mb": 1024}).id == make(run_time={"memory_mb": 4096}).id == make().id


def test_the_precision_of_the_protocol_is_no_part_of_the_id_and_every_other_one_is() -> None:
    ids = {precision: make(precision=precision).id for precision in ("fp32", "tf32", "bf16", "fp16")}
    assert ids["fp32"] == make().id
    assert len(set(ids.values())) == 4


def test_label_tells_the_number_of_calibration_images_and_another_track() -> None:
    assert make(calibration_size=64).label() == "t/e m x W4A4 64 images seed 0"
    assert make(calibration_size=0).label() == "t/e m x W4A4 seed 0"
    assert make(track="published").label() == "t/e m x W4A4 published track 32 images seed 0"
    assert make(precision="bf16").label() == "t/e m x W4A4 in bf16 32 images seed 0"


def test_a_copy_with_another_value_has_another_identity() -> None:
    cell = make_cell(seed=0)
    assert cell.id == make_cell(seed=0).id  # known before it is copied
    assert cell.model_copy(update={"seed": 1}).id == make_cell(seed=1).id
    assert cell == make_cell(seed=0)
