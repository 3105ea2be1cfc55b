"""The published segmenters."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from vitptq.tasks.openmmlab import libraries
from vitptq.tasks.segmentation.ade20k import Ade20k
from vitptq.tasks.segmentation.ade20k_models import MODELS

pytestmark = pytest.mark.skipif(bool(libraries.problems()), reason="OpenMMLab's libraries are not installed")


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_those_of_mmsegs_metafile(name: str) -> None:
    entry = MODELS[name]
    spec = find_spec("mmseg")
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0], ".mim", "configs")
    text = (folder / entry.config).parent.joinpath("metafile.yaml").read_text(encoding="utf-8")
    (section,) = (part for part in text.split("- Name: ") if part.startswith(f"{Path(entry.config).name}\n"))
    assert f"mIoU: {entry.miou}\n" in section
    assert re.search(rf"Weights: \S+/mmsegmentation/v0\.5/{re.escape(entry.weights)}\n", section)
    assert re.fullmatch("[0-9a-f]{8}", entry.digest)


@pytest.mark.parametrize("name", MODELS)
def test_published_models_are_single_scale_with_150_classes(name: str) -> None:
    ade20k = Ade20k()
    assert ade20k.input(name).shape == (3, 512, 512)
    assert ade20k.input(name).mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-6)
    assert ade20k.config(name)["decode_head"]["num_classes"] == 150
    assert ade20k.config(name)["test_cfg"] == {"mode": "whole"}
    dataset = ade20k.dataset_config(name)
    assert dataset["type"] == "ADE20KDataset"
    assert dataset["pipeline"][1] == {"type": "Resize", "scale": (2048, 512), "keep_ratio": True}
    assert "SyncBN" not in str(ade20k.config(name))
