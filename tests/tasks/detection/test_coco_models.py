"""The published detectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tasks.detection.coco_tree import CPU
from vitptq.bench.errors import BadInput
from vitptq.tasks.detection import coco_models
from vitptq.tasks.detection.coco import Coco
from vitptq.tasks.openmmlab import libraries, models


def test_classes_pipeline_and_references_are_mmdets() -> None:
    libraries.require("mmdet")
    import mmdet
    import yaml
    from mmdet.datasets import CocoDataset
    from mmengine.config import Config

    assert CocoDataset.METAINFO["classes"] == coco_models.CLASSES
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    found = yaml.safe_load((configs / "swin" / "metafile.yml").read_text())["Models"]
    by_url = {model["Weights"]: model for model in found}
    for name in ("mask_rcnn_swin_t", "mask_rcnn_swin_s"):
        entry = coco_models.PUBLISHED[name]
        model = by_url[entry.url]
        box, mask = (result["Metrics"] for result in model["Results"])
        assert entry.card.reference == {"box_ap": box["box AP"], "mask_ap": mask["mask AP"]}
        assert model["Config"] == f"configs/{entry.config}"
        assert entry.file.endswith(f"-{entry.digest}.pth") and len(entry.digest or "") == 8
        steps = Config.fromfile(configs / entry.config).test_dataloader.dataset.pipeline
        kept = [{k: v for k, v in step.items() if v is not None} for step in steps if step["type"] != "LoadAnnotations"]
        assert kept == Coco().pipeline


def test_cascade_checkpoint_of_the_swin_authors_loads(tmp_path: Path) -> None:
    task = Coco(root=tmp_path)
    torch.manual_seed(0)
    source = models.build(task.config("cascade_mask_rcnn_swin_t"), "mmdet")
    assert round(sum(parameter.numel() for parameter in source.parameters()) / 1e6) == 86  # as the authors state
    state = {_authors_name(key): value for key, value in source.state_dict().items()}
    file = task.checkpoint_file("cascade_mask_rcnn_swin_t")
    file.parent.mkdir()
    torch.save({"meta": {}, "state_dict": state}, file)
    loaded = task.load("cascade_mask_rcnn_swin_t", CPU).state_dict()
    for key, value in source.state_dict().items():
        if "downsample" not in key:  # whose channels are in another order there
            assert torch.equal(loaded[key], value), key
    del state["roi_head.bbox_head.2.fc_cls.bias"]
    torch.save({"state_dict": state}, file)
    with pytest.raises(BadInput, match="missing key roi_head.bbox_head.2.fc_cls.bias"):
        task.load("cascade_mask_rcnn_swin_t", CPU)


def test_widened_cascade_has_the_authors_parameters() -> None:
    model = models.build(coco_models.config("cascade_mask_rcnn_swin_b"), "mmdet")
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == 145


def _authors_name(key: str) -> str:
    if not key.startswith("backbone."):
        return key
    for ours, theirs in (
        ("stages", "layers"), ("attn.w_msa.", "attn."), ("ffn.layers.0.0.", "mlp.fc1."), ("ffn.layers.1.", "mlp.fc2."),
        ("patch_embed.projection", "patch_embed.proj"),
    ):  # fmt: skip
        key = key.replace(ours, theirs)
    return key
