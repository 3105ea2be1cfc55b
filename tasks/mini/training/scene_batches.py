"""Batches that train detectors and segmenters: scenes of the fit pool, a function of the seed and the step alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vitptq.tasks.mini.data.compose_scene import HARD, STANDARD, Scene, compose_scene
from vitptq.tasks.mini.data.material import Bytes, Digits, digits
from vitptq.tasks.mini.data.scenes import random_count, select
from vitptq.tasks.mini.training.warp import warp

_GAIN = 0.15


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes of one step."""

    images: Bytes  # (N, 96, 96, 3)
    scenes: tuple[Scene, ...]


def fit_batch(seed: int, size: int, step: int) -> Batch:
    """Return the scenes of one step: digits of the fit pool, each warped anew, half of the scenes drawn harder."""
    generator = np.random.Generator(np.random.PCG64([seed, step, 3]))
    pool = digits("fit")
    found = []
    for _ in range(size):
        rows = generator.integers(0, len(pool.labels), random_count(generator))
        chosen = select(pool, rows)
        material = Digits(warp(chosen.images, generator), chosen.labels, chosen.rows)
        found.append(compose_scene("fit", material, generator, difficulty=(STANDARD, HARD)[generator.integers(2)]))
    # Another light per scene: every channel a little brighter or darker.
    gains = 1 + (generator.random((size, 1, 1, 3)) * 2 - 1) * _GAIN
    images = np.clip(np.rint(np.stack([scene.image for scene in found]) * gains), 0, 255).astype(np.uint8)
    return Batch(images, tuple(found))


def detection_samples(scenes: tuple[Scene, ...], device: torch.device) -> list[Any]:
    """Return the scenes' boxes, labels and masks as mmdet wants them for its losses."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    # One copy to the device for the whole batch.
    boxes = torch.from_numpy(np.concatenate([scene.boxes for scene in scenes])).float().to(device)
    labels = torch.from_numpy(np.concatenate([scene.labels for scene in scenes])).to(device)
    counts = [len(scene.labels) for scene in scenes]
    samples = []
    for scene, box, label in zip(scenes, boxes.split(counts), labels.split(counts), strict=True):
        height, width = scene.image.shape[:2]
        masks = BitmapMasks(scene.masks.astype(np.uint8), height, width)
        sample = DetDataSample(metainfo=_geometry(scene))
        sample.gt_instances = InstanceData(bboxes=box, labels=label, masks=masks)
        samples.append(sample)
    return samples


def segmentation_samples(scenes: tuple[Scene, ...], device: torch.device) -> list[Any]:
    """Return the scenes' label maps as mmseg wants them for its losses: classes from zero."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    maps = torch.from_numpy(np.stack([scene.label_map for scene in scenes])).to(device).long() - 1
    samples = []
    for scene, label_map in zip(scenes, maps, strict=True):
        sample = SegDataSample(metainfo=_geometry(scene))
        sample.gt_sem_seg = PixelData(data=label_map[None])
        samples.append(sample)
    return samples


def _geometry(scene: Scene) -> dict[str, Any]:
    size = scene.image.shape[:2]
    return {
        "img_shape": size,
        "ori_shape": size,
        "pad_shape": size,
        "batch_input_shape": size,
        "scale_factor": (1.0, 1.0),
    }
