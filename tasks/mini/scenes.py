"""Write the embedded scenes to disk, in COCO's and in ADE20K's layout: the same images, masks and classes in both.

The training folders hold scenes of the CALIBRATION pool: what a method may look at. The validation folders hold the
evaluation pool. Scenes that train weights are composed on the fly by `train_scenes.py` and never written.

Scene n of `train` is COCO image n and `ADE_train_<n>.jpg`; scene n of `val` is COCO image 10,000 + n and
`ADE_val_<n>.jpg`. Numbers start at one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from vitptq.tasks.mini.compose_scene import DIGITS, SIDE, Scene, compose_scene
from vitptq.tasks.mini.data import decode, encode
from vitptq.tasks.mini.folder import DataError as DataError
from vitptq.tasks.mini.folder import build_once, compare, read_manifest, write_manifest
from vitptq.tasks.mini.material import CLASSES, Digits, Ints, Pool, digits

SCHEMA = 1
Split = Literal["train", "val"]
Progress = Callable[[int, int], None]

COCO = "coco"
ADE = "ADEChallengeData2016"
# Of the detectors: label i is category i + 1 of the COCO JSON.
THING_CLASSES = tuple(str(label) for label in range(CLASSES))
# Of the segmenters: class i is value i + 1 of a label map, whose value 0 is ignored.
SEGMENT_CLASSES = ("photograph", *THING_CLASSES)

CALIBRATION_LISTS = Path(__file__).with_name("scenes_calibration.json")
CALIBRATION_SEEDS = range(5)
FIRST_VAL_ID = 10_001

# Over names, decoded pixels, label maps and annotations of the standard edition (seed 0, standard counts).
FINGERPRINT = "c7c12d5b6e9bb702017509a93564e3ed0f3701d583b67e064f4cb4d3d4e60c2d"

_POOLS: dict[Split, Pool] = {"train": "calibration", "val": "evaluation"}
_ADE_FOLDERS: dict[Split, str] = {"train": "training", "val": "validation"}


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of scenes per split."""

    train: int = 256
    val: int = 500


STANDARD = Counts()


def generate(out: Path, *, seed: int = 0, counts: Counts = STANDARD, progress: Progress | None = None) -> Path:
    """Return `out` after writing both layouts there (`coco/`, `ADEChallengeData2016/`); a complete folder is reused.

    Safe when several processes ask for one folder: each builds a copy beside it; the first to finish wins.
    """
    return build_once(
        out,
        write=lambda root: _write(root, seed, counts, progress),
        check=lambda root: check(root, seed=seed, counts=counts),
    )


def check(root: Path, *, seed: int = 0, counts: Counts = STANDARD) -> None:
    """Raise DataError unless the manifest in `root` describes the scenes asked for; images are not read."""
    compare(read_manifest(root), _expected(seed, counts), root)


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


def calibration_lists(*, counts: Counts = STANDARD) -> dict[str, list[int]]:
    """Return, per seed, the numbers of all training scenes in a random order: the first 32 are the 32-image set."""
    numbers = np.arange(1, counts.train + 1)
    return {
        str(seed): np.random.Generator(np.random.PCG64(seed)).permutation(numbers).tolist()
        for seed in CALIBRATION_SEEDS
    }


def write_calibration_lists(path: Path = CALIBRATION_LISTS) -> None:
    """Write the published calibration lists, one seed per line."""
    lists = ",\n".join(f'  "{seed}": {json.dumps(numbers)}' for seed, numbers in calibration_lists().items())
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


def _expected(seed: int, counts: Counts) -> dict[str, Any]:
    expected: dict[str, Any] = {"schema": SCHEMA, "seed": seed, "counts": asdict(counts)}
    if seed == 0 and counts == STANDARD:
        expected["fingerprint"] = FINGERPRINT
    return expected


def _write(root: Path, seed: int, counts: Counts, progress: Progress | None) -> None:
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
    write_manifest(root, {**_expected(seed, counts), "fingerprint": digest.hexdigest()})


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
    for label, mask, (left, top, right, bottom) in zip(scene.labels, scene.masks, scene.boxes.tolist(), strict=True):
        annotations["annotations"].append(
            {
                "id": len(annotations["annotations"]) + 1,
                "image_id": image_id,
                "category_id": int(label) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": encode_mask(mask),
            }
        )


def encode_mask(mask: np.typing.NDArray[np.bool_]) -> dict[str, Any]:
    """Return a mask (H, W) as COCO's compressed run lengths, ready for JSON."""
    # Part of OpenMMLab's requirements, like all readers of these scenes.
    from pycocotools import mask as run_lengths

    encoded = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}
