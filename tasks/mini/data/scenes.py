"""Write the embedded scenes to disk, in COCO's and in ADE20K's layout: the same images, masks and classes in both.

The training folders hold scenes of the CALIBRATION pool: what a method may look at. The validation folders hold the
evaluation pool. Scenes that train weights are composed on the fly by `training/scene_batches.py` and never written.

Scene n of `train` is COCO image n and `ADE_train_<n>.jpg`; scene n of `val` is COCO image 10,000 + n and
`ADE_val_<n>.jpg`. Numbers start at one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vitptq.tasks.mini.data.compose_scene import DIGITS, SIDE, Scene, compose_scene
from vitptq.tasks.mini.data.generated import SCHEMA, Counts, GeneratedData, Progress
from vitptq.tasks.mini.data.jpeg import decode, encode
from vitptq.tasks.mini.data.material import CLASSES, Digits, Ints, Pool, digits

Split = Literal["train", "val"]

COCO = "coco"
ADE = "ADEChallengeData2016"
# Of the detectors: label i is category i + 1 of the COCO JSON.
THING_CLASSES = tuple(str(label) for label in range(CLASSES))
# Of the segmenters: class i is value i + 1 of a label map, whose value 0 is ignored.
SEGMENT_CLASSES = ("photograph", *THING_CLASSES)

FIRST_VAL_ID = 10_001

_POOLS: dict[Split, Pool] = {"train": "calibration", "val": "evaluation"}
_ADE_FOLDERS: dict[Split, str] = {"train": "training", "val": "validation"}


def coco_id(split: Split, number: int) -> int:
    """Return the id of a scene in the COCO JSON."""
    return number if split == "train" else FIRST_VAL_ID - 1 + number


def coco_image(split: Split, number: int) -> Path:
    """Return where a scene's image is within the folder `coco`."""
    return Path(f"{split}2017/{coco_id(split, number):012d}.jpg")


def coco_annotations(split: Split) -> Path:
    """Return where a split's annotations are within the folder `coco`."""
    return Path(f"annotations/instances_{split}2017.json")


def ade_image(split: Split, number: int) -> Path:
    """Return where a scene's image is within the folder `ADEChallengeData2016`."""
    return Path(f"images/{_ADE_FOLDERS[split]}/ADE_{split}_{number:08d}.jpg")


def ade_label_map(split: Split, number: int) -> Path:
    """Return where a scene's label map is within the folder `ADEChallengeData2016`."""
    return Path(f"annotations/{_ADE_FOLDERS[split]}/ADE_{split}_{number:08d}.png")


def write_calibration_lists(path: Path) -> None:
    """Write the calibration lists as they are published, one seed per line."""
    lists = ",\n".join(f'  "{seed}": {json.dumps(numbers)}' for seed, numbers in DATA.calibration_lists().items())
    path.write_text(f'{{\n"schema": {SCHEMA},\n"lists": {{\n{lists}\n}}\n}}\n', encoding="utf-8")


def scenes(split: Split, count: int, *, seed: int = 0) -> Iterator[Scene]:
    """Yield the scenes of one split in the order of their numbers; every digit is used before one comes again."""
    pool = _POOLS[split]
    stream = ("train", "val").index(split)
    rows = _endless_rows(pool, np.random.Generator(np.random.PCG64([seed, stream])))
    material = digits(pool)
    for number in range(1, count + 1):
        generator = np.random.Generator(np.random.PCG64([seed, stream, number]))
        chosen = np.array([next(rows) for _ in range(random_count(generator))])
        yield compose_scene(pool, select(material, chosen), generator)


def random_count(generator: np.random.Generator) -> int:
    """Return how many digits a scene gets."""
    low, high = DIGITS
    return low + int(generator.random() * (high - low + 1))


def select(material: Digits, rows: Ints) -> Digits:
    """Return the digits at `rows`."""
    return Digits(material.images[rows], material.labels[rows], material.rows[rows])


def _endless_rows(pool: Pool, generator: np.random.Generator) -> Iterator[int]:
    total = len(digits(pool).labels)
    while True:
        yield from generator.permutation(total).tolist()


def _write(root: Path, seed: int, counts: Counts, progress: Progress | None) -> str:
    for split in _POOLS:
        for file in (
            root / COCO / coco_annotations(split),
            root / COCO / coco_image(split, 1),
            root / ADE / ade_image(split, 1),
            root / ADE / ade_label_map(split, 1),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    done = 0
    for split, count in ((split, getattr(counts, split)) for split in _POOLS):
        annotations = _empty_annotations(split)
        for number, scene in enumerate(scenes(split, count, seed=seed), start=1):
            content = encode(scene.image)
            (root / COCO / coco_image(split, number)).write_bytes(content)
            (root / ADE / ade_image(split, number)).write_bytes(content)
            Image.fromarray(scene.label_map).save(root / ADE / ade_label_map(split, number))
            _annotate(annotations, split, number, scene)
            digest.update(f"{split}\0{number}\0".encode())
            digest.update(np.ascontiguousarray(decode(content)).tobytes())
            digest.update(scene.label_map.tobytes())
            done += 1
            if progress is not None:
                progress(done, counts.train + counts.val)
        text = json.dumps(annotations)
        (root / COCO / coco_annotations(split)).write_text(text, encoding="utf-8")
        digest.update(text.encode())
    return digest.hexdigest()


def _empty_annotations(split: Split) -> dict[str, Any]:
    return {
        "info": {"description": f"vitptq embedded scenes, {split}", "version": str(SCHEMA)},
        "licenses": [],
        "images": [],
        "annotations": [],
        "categories": [
            {"id": label + 1, "name": name, "supercategory": "digit"} for label, name in enumerate(THING_CLASSES)
        ],
    }


def _annotate(annotations: dict[str, Any], split: Split, number: int, scene: Scene) -> None:
    image_id = coco_id(split, number)
    file_name = coco_image(split, number).name
    annotations["images"].append({"id": image_id, "file_name": file_name, "height": SIDE, "width": SIDE})
    annotations["annotations"] += coco_objects(scene, image_id, first=len(annotations["annotations"]) + 1)


def coco_objects(scene: Scene, image_id: int, *, first: int) -> list[dict[str, Any]]:
    """Return the digits of a scene as COCO's annotations, their ids counted from `first`."""
    digits_shown = zip(scene.labels, scene.masks, scene.boxes.tolist(), strict=True)
    return [
        {
            "id": number,
            "image_id": image_id,
            "category_id": int(label) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": encode_mask(mask),
        }
        for number, (label, mask, (left, top, right, bottom)) in enumerate(digits_shown, start=first)
    ]


def encode_mask(mask: np.typing.NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask (H, W) as COCO's compressed run lengths, ready for JSON."""
    # Part of OpenMMLab's requirements, like all readers of these scenes.
    from pycocotools import mask as run_lengths

    encoded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def _training_numbers(count: int) -> list[int]:
    return list(range(1, count + 1))


DATA = GeneratedData(
    kind="scenes",
    standard=Counts(train=256, val=500),
    fingerprint="c7c12d5b6e9bb702017509a93564e3ed0f3701d583b67e064f4cb4d3d4e60c2d",
    lists=Path(__file__).with_name("scenes_calibration.json"),
    write=_write,
    training_names=_training_numbers,
)
