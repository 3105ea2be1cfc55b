"""One cell per task and method on data in the real formats and models of the real sizes, without any data set.

    python -m tests.reliability.real_formats FOLDER            # goes on where it was; --only mask_rcnn takes a part

Trees in the layouts of ImageNet, COCO and ADE20K are written to FOLDER with made-up photographs at their usual sizes,
and checkpoints with random weights, described in `checkpoints.toml` as a laboratory describes its own. `vitptq run`
then measures the float model and four methods with few steps; scores mean nothing, memory and processor time do. The
same file, loaded as an adapter, is the edition "made-up" of the three tasks: the full editions' code on fewer images.
The table is in docs/performance.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from vitptq.tasks.classification.imagenet import ImageNet, wordnet_ids
from vitptq.tasks.detection.coco import Coco
from vitptq.tasks.detection.coco_models import CLASSES as THINGS
from vitptq.tasks.segmentation.ade20k import Ade20k

CLASSES, TRAIN, VAL = 4, 8, 4
"""Class folders, and images in each of them."""
SCENES, LISTED = 2, 4
"""Evaluation images of COCO and ADE20K, and training images: the audit of real images takes four."""
METHODS: dict[str, dict[str, Any]] = {
    "minmax": {},
    "repq-vit": {},
    "ptq4vit": {"rounds": 1, "candidates": 20},
    "aphq-vit": {"iterations": 4, "mlp_iterations": 4, "rounds": 1, "candidates": 16, "draws": 1},
}
MODELS = {
    "deit_small": ("imagenet", "deit_small_patch16_224"),
    "swin_tiny": ("imagenet", "swin_tiny_patch4_window7_224"),
    "mobilevit_s": ("imagenet", "mobilevit_s"),
    "mask_rcnn_swin_tiny": ("coco", "swin/mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco"),
    "upernet_swin_tiny_random": ("ade20k", "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512"),
}
CALIBRATION = {"imagenet": 8, "coco": 1, "ade20k": 1}
REFERENCES = {"imagenet": {"top1": 50.0}, "coco": {"box_ap": 50.0, "mask_ap": 50.0}, "ade20k": {"miou": 50.0}}


class MadeUpImageNet(ImageNet):
    """A few classes of ImageNet's layout."""

    edition: ClassVar[str] = "made-up"
    data_version = "made-up-1"

    def __init__(self) -> None:
        super().__init__(
            classes=CLASSES, images=CLASSES * VAL, training_images=CLASSES * TRAIN,
            class_names=wordnet_ids()[:CLASSES], lists=_rows, batch_size=8,
        )  # fmt: skip


class MadeUpCoco(Coco):
    """A few scenes of COCO's layout."""

    edition: ClassVar[str] = "made-up"
    data_version = "made-up-1"

    def __init__(self) -> None:
        super().__init__(images=SCENES, objects=None, training_images=LISTED, lists=_positions, batch_size=1)


class MadeUpAde20k(Ade20k):
    """A few scenes of ADE20K's layout."""

    edition: ClassVar[str] = "made-up"
    data_version = "made-up-1"

    def __init__(self) -> None:
        super().__init__(images=SCENES, training_images=LISTED, lists=_positions, batch_size=1)


def _rows(_seed: int) -> Sequence[str]:
    return [f"{label}/{position}" for position in range(TRAIN) for label in range(CLASSES)]


def _positions(_seed: int) -> Sequence[str]:
    return [str(position) for position in range(LISTED)]


def main() -> None:
    """Write what is missing, run what has no record, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="models whose name has this in it")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    os.environ |= {"VITPTQ_DATA": str(folder), "VITPTQ_CHECKPOINTS": str(folder / "checkpoints")}
    os.environ["VITPTQ_CACHE"] = str(folder / "cache")
    write_trees(folder)
    times = folder / "times.json"
    for model in (name for name in MODELS if asked.only in name):
        describe(folder, model)
        for method in ("float", *METHODS):
            known = json.loads(times.read_text()) if times.is_file() else {}
            if f"{model} {method}" not in known:
                known[f"{model} {method}"] = measured(folder, model, method)
                times.write_text(json.dumps(known, indent=1))
    print(*table(folder, json.loads(times.read_text())), sep="\n")


def write_trees(folder: Path, only: str = "") -> None:
    """Write the three data sets, or `only` the one of this name, each under a temporary name first."""
    for name, write in (("imagenet", _imagenet), ("coco", _coco), ("ADEChallengeData2016", _ade20k)):
        if not (folder / name).exists() and only in ("", name):
            shutil.rmtree(folder / f"{name}.part", ignore_errors=True)
            write(folder / f"{name}.part")
            (folder / f"{name}.part").rename(folder / name)


def describe(folder: Path, model: str) -> None:
    """Save a checkpoint with random weights and its entry in `checkpoints.toml`."""
    import timm
    import torch

    from vitptq.tasks.openmmlab.configs import for_one_device, packaged_config
    from vitptq.tasks.openmmlab.models import build

    checkpoints = folder / "checkpoints"
    file = checkpoints / f"{model}.pth"
    if file.exists():
        return
    checkpoints.mkdir(parents=True, exist_ok=True)
    task, source = MODELS[model]
    torch.manual_seed(0)
    if task == "imagenet":
        network = timm.create_model(source, num_classes=CLASSES)
    else:
        scope: Any = "mmdet" if task == "coco" else "mmseg"
        network = build(for_one_device(packaged_config(source, scope)["model"]), scope)
    temporary = checkpoints / f"{model}.part"
    torch.save({"state_dict": network.state_dict()}, temporary)
    reference = ", ".join(f"{name} = {value}" for name, value in REFERENCES[task].items())
    lines = (
        f"[[{task}]]", f'name = "{model}"', f'{"architecture" if task == "imagenet" else "config"} = "{source}"',
        f'file = "{file.name}"', f'sha256 = "{hashlib.sha256(temporary.read_bytes()).hexdigest()}"',
        f"reference = {{ {reference} }}", "tolerance = 100.0", "",
    )  # fmt: skip
    with (checkpoints / "checkpoints.toml").open("a") as described:
        described.write("\n".join(lines) + "\n")
    temporary.rename(file)


def measured(folder: Path, model: str, method: str) -> float:
    """Run one cell and return the processor seconds of the whole command."""
    task, _ = MODELS[model]
    suite = folder / f"{model}-{method}.toml"
    parameters = "".join(f"{name} = {value}\n" for name, value in METHODS.get(method, {}).items())
    suite.write_text(
        f'title = "made up"\n[[cells]]\ntask = "{task}"\nedition = "made-up"\nmodels = ["{model}"]\n'
        f'methods = ["{method}"]\nbits = ["{"float" if method == "float" else "W4A4"}"]\n'
        f"calibration_size = {CALIBRATION[task]}\n[cells.parameters]\n{parameters}"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "vitptq.bench.cli", "run", str(suite), "--results", str(folder / "results")]
    subprocess.run([*command, "--adapter", __file__, "--limit", "120"], check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


def table(folder: Path, times: dict[str, float]) -> list[str]:
    """Return the rows: processor time of the command and of the cell's parts, and the worker's peak memory."""
    rows = [
        "| model | method | command, CPU s | quantise, s | evaluate, s | peak, MiB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    found = {}
    for file in (folder / "results" / "records").rglob("*.json"):
        record = json.loads(file.read_text())
        found[f"{record['cell']['model']} {record['cell']['method']}"] = record
    for key, seconds in times.items():
        record = found.get(key, {})
        costs, failure = record.get("costs") or {}, record.get("failure") or {}
        values = [costs.get(name, failure.get("kind", "")) for name in ("quantise_s", "evaluate_s", "peak_host_mib")]
        rows.append(f"| {key.replace(' ', ' | ')} | {seconds} | " + " | ".join(map(str, values)) + " |")
    return rows


def _photograph(height: int, width: int, seed: int) -> Image.Image:
    """Return something with edges, areas and noise, as photographs have them."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 60 + 2, width // 60 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    x, y = random.integers(0, width // 2), random.integers(0, height // 2)
    smooth[y : y + height // 3, x : x + width // 3] = random.integers(0, 256, 3)
    return Image.fromarray((smooth + random.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8))


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 90} if path.suffix.lower() in (".jpg", ".jpeg") else {}))


def _imagenet(folder: Path) -> None:
    for label, wnid in enumerate(wordnet_ids()[:CLASSES]):
        for number in range(TRAIN):
            _save(_photograph(375, 500, 100 * label + number), folder / "train" / wnid / f"{wnid}_{number}.JPEG")
        for number in range(VAL):
            name = f"ILSVRC2012_val_{label * VAL + number + 1:08d}.JPEG"
            _save(_photograph(375, 500, 100 * label + 50 + number), folder / "val" / wnid / name)


def _coco(folder: Path) -> None:
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [{"id": number + 1, "name": name} for number, name in enumerate(THINGS)]
    for number in range(LISTED):
        _save(_photograph(480, 640, 900 + number), folder / "train2017" / f"{number + 1:012d}.jpg")
    for number in range(101, 101 + SCENES):
        name = f"{number:012d}.jpg"
        _save(_photograph(480, 640, number), folder / "val2017" / name)
        content["images"].append({"id": number, "file_name": name, "height": 480, "width": 640})
        for x in (50, 300):
            corners = [x, 60, x + 200, 60, x + 200, 300, x, 300]
            content["annotations"].append({
                "id": len(content["annotations"]) + 1, "image_id": number, "category_id": 1 + x % 7, "iscrowd": 0,
                "bbox": [x, 60, 200, 240], "area": 48_000, "segmentation": [corners],
            })  # fmt: skip
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))


def _ade20k(folder: Path) -> None:
    for split, word, count in (("training", "train", LISTED), ("validation", "val", SCENES)):
        for number in range(1, count + 1):
            stem = f"ADE_{word}_{number:08d}"
            _save(_photograph(512, 683, number + 7 * len(word)), folder / "images" / split / f"{stem}.jpg")
            if split == "validation":
                labels = np.zeros((512, 683), dtype=np.uint8)
                labels[100:300, 100:500], labels[300:] = 3, 17
                _save(Image.fromarray(labels), folder / "annotations" / split / f"{stem}.png")


if __name__ == "__main__":
    main()
