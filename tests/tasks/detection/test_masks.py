"""Run-length encoded masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vitptq.bench.errors import BadInput
from vitptq.tasks.detection import masks


def test_masks_survive_packing() -> None:
    found = torch.rand(300, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    rles = masks.encoded(found)
    assert masks.unpacked(*masks.packed(rles)) == rles
    sized = [{"size": [7, 5], "counts": counts} for counts in rles]
    assert masks.areas(sized) == found.flatten(1).sum(dim=1).tolist()
    assert np.array_equal(masks.decoded(rles[-1], 7, 5), found[-1].numpy())


def random_masks(count: int) -> tuple[list[bytes], np.ndarray]:
    """Return run lengths and sizes of masks of all kinds: empty, full, with few and with very many runs."""
    random = np.random.default_rng(0)
    rles, sizes = [], []
    for _ in range(count):
        size = random.integers(1, 60, 2)
        share = random.choice([0, 0.01, 0.5, 0.99, 1])
        rles += masks.encoded(torch.from_numpy(random.random((1, *size)) < share))
        sizes.append(size)
    return rles, np.array(sizes)


def test_masks_of_all_kinds_are_accepted_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    rles, sizes = random_masks(300)
    masks.check_rles(*masks.packed(rles), sizes)
    monkeypatch.setattr(masks, "PORTION", 50)
    masks.check_rles(*masks.packed(rles), sizes)
    masks.check_rles(*masks.packed([]), np.zeros((0, 2), int))


@pytest.mark.parametrize("portion", [50, 2**22])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rle: b"!!!no runs", "mask 170 is not in COCO's form"),
        (lambda rle: b"", "mask 170 is not in COCO's form"),
        (lambda rle: rle[:-1] + b"p", "mask 170 is not in COCO's form"),  # announces a digit that does not come
        (lambda rle: rle + b"1", "mask 170: the runs of a mask add up to"),
        (lambda rle: b"5J", "mask 170: has a negative run"),
        (lambda rle: b"o" * 300 + b"7", "mask 170: "),  # a number of 1,500 bits
    ],
)
def test_the_first_wrong_mask_is_named(
    monkeypatch: pytest.MonkeyPatch, portion: int, change: Callable[[bytes], bytes], message: str
) -> None:
    monkeypatch.setattr(masks, "PORTION", portion)
    rles, sizes = random_masks(300)
    rles[170] = change(rles[170])
    with pytest.raises(BadInput, match=message):
        masks.check_rles(*masks.packed(rles), sizes)
