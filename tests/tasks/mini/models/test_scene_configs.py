"""Configurations of the embedded detectors and of the segmenter."""

from __future__ import annotations

from vitptq.tasks.mini.models.scene_configs import cascade_mask_rcnn_swin, mask_rcnn_swin, upernet_swin


def test_all_share_the_backbone_and_the_normalisation() -> None:
    configs = [mask_rcnn_swin(), cascade_mask_rcnn_swin(), upernet_swin()]
    assert configs[0]["backbone"] == configs[1]["backbone"] == configs[2]["backbone"]
    assert len({tuple(config["data_preprocessor"]["mean"]) for config in configs}) == 1


def test_the_cascade_has_three_stages_that_ask_for_more_overlap_each() -> None:
    config = cascade_mask_rcnn_swin()
    assert len(config["roi_head"]["bbox_head"]) == config["roi_head"]["num_stages"] == 3
    assert [stage["assigner"]["pos_iou_thr"] for stage in config["train_cfg"]["rcnn"]] == [0.5, 0.6, 0.7]


def test_a_config_may_be_changed_by_its_reader() -> None:
    mask_rcnn_swin()["backbone"]["embed_dims"] = 0
    assert mask_rcnn_swin()["backbone"]["embed_dims"] > 0
