"""Run-length encoded masks."""

from __future__ import annotations

import numpy as np
import torch

from vitptq.tasks.detection import masks


def test_masks_survive_packing() -> None:
    found = torch.rand(300, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    rles = masks.encoded(found)
    assert masks.unpacked(*masks.packed(rles)) == rles
    sized = [{"size": [7, 5], "counts": counts} for counts in rles]
    assert masks.areas(sized) == found.flatten(1).sum(dim=1).tolist()
    assert np.array_equal(masks.decoded(rles[-1], 7, 5), found[-1].numpy())
