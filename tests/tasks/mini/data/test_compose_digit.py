import numpy as np

from vitptq.tasks.mini.data.compose_digit import blend, compose, digit_alpha, draw_digit
from vitptq.tasks.mini.data.material import DIGIT_SIDE, digits

FULL = np.full((DIGIT_SIDE, DIGIT_SIDE), 255, dtype=np.uint8)


def test_a_digit_stays_inside_its_box() -> None:
    alpha = digit_alpha(FULL[None], np.array([[3, 5, 10, 8]]), (32, 40))[0]
    inside = np.zeros((32, 40), dtype=bool)
    inside[3:13, 5:13] = True
    assert (alpha[~inside] == 0).all()
    assert (alpha[5:11, 7:11] >= 245).all()


def test_a_digit_in_its_own_size_is_unchanged() -> None:
    digit = digits("fit").images[0]
    alpha = digit_alpha(digit[None], np.array([[0, 0, DIGIT_SIDE, DIGIT_SIDE]]), (DIGIT_SIDE, DIGIT_SIDE))[0]
    assert (alpha == digit).all()


def test_drawing_changes_the_box_only_and_reports_the_mask() -> None:
    canvas = np.full((96, 128, 3), 200, dtype=np.uint8)
    drawn, mask = draw_digit(canvas, digits("fit").images[7], (20, 30, 40, 24), (10, 20, 30))
    changed = (drawn != canvas).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert (rows.min() >= 20, rows.max() < 60, columns.min() >= 30, columns.max() < 54) == (True,) * 4
    assert mask.any()
    assert changed[mask].all()
    assert (canvas == 200).all()


def test_full_coverage_gives_the_colour_and_none_the_canvas() -> None:
    canvas = np.array([[[[1, 2, 3], [4, 5, 6]]]], dtype=np.uint8)
    alpha = np.array([[[255, 0]]], dtype=np.uint8)
    assert blend(canvas, alpha, np.array([[250, 120, 7]])).tolist() == [[[[250, 120, 7], [4, 5, 6]]]]


def test_composites_depend_on_the_generator_only() -> None:
    rows = np.arange(0, 340, 20)
    one, same, other = (compose("fit", rows, np.random.Generator(np.random.PCG64(seed))) for seed in (1, 1, 2))
    assert (one.images == same.images).all()
    assert (one.images != other.images).any()


def test_every_digit_is_brighter_than_what_is_behind_it() -> None:
    rows = np.arange(0, 1200, 6)
    made = compose("evaluation", rows, np.random.Generator(np.random.PCG64(3)))
    for image, mask in zip(made.images.astype(float), made.masks, strict=True):
        grey = image @ np.array([0.3, 0.59, 0.11])
        assert mask.sum() > 12
        # The background around a digit stands in for the one behind it, which a test cannot see any more.
        assert grey[mask].mean() > grey[~mask].mean() + 10
