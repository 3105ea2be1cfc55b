"""Train the linear head of a pretrained segmenter: `python -m vitptq.tasks.mini.training.pretrained_segmenter`.

The usual linear probe: the backbone stays as it is, its patch tokens of the training scenes are computed once and kept
in the work folder, and a 1x1 convolution learns from them, resized to the label map. The evaluation scenes are looked
at once, as the benchmark scores them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn
from torch.nn import functional

from vitptq.tasks.mini.data.compose_scene import SIDE
from vitptq.tasks.mini.data.jpeg import decode, encode
from vitptq.tasks.mini.data.material import Bytes
from vitptq.tasks.mini.data.scenes import SEGMENT_CLASSES
from vitptq.tasks.mini.models import pretrained_segmenter
from vitptq.tasks.mini.models.dinov2 import MEAN, STD
from vitptq.tasks.mini.models.pretrained_segmenter import PRETRAINED_SEGMENTERS
from vitptq.tasks.mini.models.scene_models import halved
from vitptq.tasks.mini.models.shipped import WEIGHTS
from vitptq.tasks.mini.segmentation import MiniAde20k
from vitptq.tasks.mini.training.command import choose_device, readable
from vitptq.tasks.mini.training.files import replace_file, write_facts, write_log
from vitptq.tasks.mini.training.scene_batches import fit_batch
from vitptq.tasks.mini.training.scene_model import score_shipped
from vitptq.tasks.mini.training.steps import learning_rate, stream_seed, update

NAME = "dinov2_vits14_linear"
CHUNK = 50
_BATCH = 10
Row = dict[str, float]


@dataclass(frozen=True)
class LinearRecipe:
    """What decides the weights of the head."""

    scenes: int = 600
    epochs: int = 30
    batch: int = 20
    rate: float = 2e-3
    decay: float = 1e-4
    seed: int = 0


def training_features(recipe: LinearRecipe, work: Path, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Yield patch tokens (50, C, H, W) as 16-bit floats with label maps, scene by scene from the fit pool."""
    model: Any = None
    for chunk in range(-(-recipe.scenes // CHUNK)):
        path = work / f"{NAME}.features" / f"fit-{recipe.seed}-{chunk:04d}.safetensors"
        if not path.is_file():
            model = model or PRETRAINED_SEGMENTERS[NAME].without_head().to(device)
            batch = fit_batch(recipe.seed, CHUNK, chunk)
            labels = np.stack([scene.label_map for scene in batch.scenes]) - 1
            found = {"tokens": tokens(model, batch.images, device), "labels": torch.from_numpy(labels.astype(np.uint8))}
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(found, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)
        yield load_file(path)


def tokens(model: Any, images: Bytes, device: torch.device) -> Tensor:
    """Return the backbone's patch tokens of images (N, 96, 96, 3), enlarged as the test pipeline does."""
    from mmcv import imresize

    side = pretrained_segmenter.SIDE
    pixels = np.stack([imresize(decode(encode(image)), (side, side)) for image in images])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        return torch.cat([model.backbone(part.to(device))[0].cpu().half() for part in inputs.split(_BATCH)])


def fit(found: dict[str, Tensor], recipe: LinearRecipe) -> tuple[nn.Conv2d, list[Row]]:
    """Return the 1x1 convolution that was trained on the tokens, and a row of the log per epoch."""
    torch.manual_seed(stream_seed(recipe.seed, 0, 1))
    head = nn.Conv2d(found["tokens"].shape[1], len(SEGMENT_CLASSES), 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(head.parameters(), weight_decay=recipe.decay)
    steps = len(found["tokens"]) // recipe.batch
    rows: list[Row] = []
    for epoch in range(recipe.epochs):
        started, total = time.perf_counter(), 0.0
        for step, rows_of_step in enumerate(torch.randperm(len(found["tokens"])).split(recipe.batch)[:steps]):
            logits = functional.interpolate(head(found["tokens"][rows_of_step].float()), size=SIDE, mode="bilinear")
            loss = functional.cross_entropy(logits, found["labels"][rows_of_step].long())
            rate = learning_rate(recipe.rate, epoch + step / steps, recipe.epochs, warmup=1, first=0.02)
            update(head, optimiser, loss, rate=rate, clip=1.0)
            total += float(loss.detach()) / steps
        rows.append({"epoch": epoch + 1, "loss": total, "seconds": time.perf_counter() - started})
        print(f"{NAME} epoch {epoch + 1}/{recipe.epochs}  loss {total:.4f}", flush=True)
    return head, rows


def publish(head: nn.Conv2d, rows: list[Row], known: dict[str, Any], out: Path) -> None:
    """Write the head, its facts and its log; its scores come from `measure`."""
    tensors = halved({f"conv_seg.{name}": value for name, value in head.state_dict().items()})
    content = save(tensors, metadata={key: json.dumps(value) for key, value in known.items()})
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / f"{NAME}.safetensors", content)
    write_facts(out / f"{NAME}.json", known | {"sha256": hashlib.sha256(content).hexdigest(), "scores": {}})
    write_log(out / f"{NAME}.log.csv", rows)


def measure(device: torch.device) -> dict[str, float]:
    """Score the shipped head as the benchmark does, write the scores into its facts, and return them."""
    return score_shipped(MiniAde20k(), NAME, device)


def main(
    scenes: Annotated[int, typer.Option(help="Training scenes.")] = LinearRecipe.scenes,
    epochs: Annotated[int, typer.Option(help="Epochs of the head.")] = LinearRecipe.epochs,
    seed: Annotated[int, typer.Option(help="Seed of the scenes and of their order.")] = LinearRecipe.seed,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    work: Annotated[Path, typer.Option(help="Folder for the kept tokens.")] = Path("mini_train"),
) -> None:
    """Train the head, write it and score it; run again after an interruption to continue."""
    place, recipe = choose_device(device, threads), LinearRecipe(scenes=scenes, epochs=epochs, seed=seed)
    chunks = training_features(recipe, work, place)
    console = Console(stderr=True)
    parts = list(track(chunks, f"tokens of {scenes:,} scenes", -(-scenes // CHUNK), console=console))
    found = {name: torch.cat([part[name] for part in parts])[:scenes] for name in ("tokens", "labels")}
    head, rows = fit(found, recipe)
    known = {"model": NAME, "backbone": PRETRAINED_SEGMENTERS[NAME].backbone, "recipe": asdict(recipe)}
    publish(head, rows, known, WEIGHTS)
    print(f"{NAME}: {readable(measure(place))} on the evaluation scenes, as the benchmark scores", flush=True)


if __name__ == "__main__":
    typer.run(main)
