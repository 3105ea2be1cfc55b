"""Train the head of a pretrained classifier: `python -m vitptq.tasks.mini.training.pretrained_head dinov2_vits14`.

The backbone stays as it is, so its features of the training composites are computed once and kept in the work folder;
the head is a multinomial logistic regression on them. How strongly its weights decay is chosen on the calibration
pool. The evaluation images are looked at once, with the chosen head.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save, save_file
from timm.layers.config import set_fused_attn
from torch import Tensor, nn
from torch.nn import functional

from vitptq.tasks.classification.images import transform
from vitptq.tasks.mini.data import digit_images
from vitptq.tasks.mini.data.jpeg import decode, encode
from vitptq.tasks.mini.data.material import Bytes, Ints
from vitptq.tasks.mini.models.pretrained import PRETRAINED, PretrainedClassifier
from vitptq.tasks.mini.models.shipped import WEIGHTS
from vitptq.tasks.mini.training.command import choose_device
from vitptq.tasks.mini.training.epochs import ClassifierRecipe, epoch_images
from vitptq.tasks.mini.training.files import replace_file, write_facts, write_log
from vitptq.tasks.mini.training.loop import device_name

CHUNK = 500
_BATCH = 50
_STEPS = 300
Row = dict[str, float]
Features = dict[str, Tensor]
"""`features` (N, C), as the head reads them, and `labels` (N,)."""


@dataclass(frozen=True)
class HeadRecipe:
    """What decides the weights of a head."""

    images: int = 40000
    decays: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Factors of the weights' squared norm, beside the mean loss of an image; the best one is kept."""
    seed: int = 0


@dataclass
class KeptFeatures:
    """The backbone's features of training composites and of the edition's images, each computed once."""

    entry: PretrainedClassifier
    work: Path
    device: torch.device

    def training(self, recipe: HeadRecipe) -> Iterator[Features]:
        """Yield the features of the composites, chunk by chunk."""
        # A recipe of one epoch without calm shows the photographs at full contrast from epoch 1 on.
        composites = ClassifierRecipe(images=CHUNK, epochs=1, calm=0.0, seed=recipe.seed)
        for chunk in range(1, chunks_of(recipe) + 1):
            path = self._path(f"fit-{recipe.seed}-{chunk:04d}")
            if not path.is_file():
                images, labels = epoch_images(composites, chunk)
                # The edition's images are JPEG files, whose blocks show once they are enlarged.
                self._keep(path, [decode(encode(image)) for image in images], labels)
            yield load_file(path)

    def split(self, name: str) -> Features:
        """Return the features of the edition's `train` (the calibration pool) or `val`."""
        path = self._path(name)
        if not path.is_file():
            images = digit_images.read_split(digit_images.DATA.generate(self.work / "imagenet"), name)
            self._keep(path, list(images.images), images.labels)
        return load_file(path)

    def compute(self, images: list[Bytes]) -> Tensor:
        """Return what the head reads for images (H, W, 3), transformed as in the evaluation."""
        steps, found = transform(self.entry.data_config), []
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = torch.stack([steps(Image.fromarray(image)) for image in images[start : start + _BATCH]])
                tokens = self._model.forward_features(batch.to(self.device))
                found.append(self._model.forward_head(tokens, pre_logits=True).cpu())
        return torch.cat(found)

    @cached_property
    def _model(self) -> Any:
        return self.entry.without_head().to(self.device).eval()

    def _path(self, name: str) -> Path:
        return self.work / f"{self.entry.name}.features" / f"{name}.safetensors"

    def _keep(self, path: Path, images: list[Bytes], labels: Ints) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file({"features": self.compute(images), "labels": torch.from_numpy(labels).long()}, partial)
        partial.replace(path)


def chunks_of(recipe: HeadRecipe) -> int:
    """Return how many chunks hold the composites."""
    return math.ceil(recipe.images / CHUNK)


def choose_head(found: Features, held_out: Features, decays: tuple[float, ...]) -> tuple[nn.Linear, list[Row]]:
    """Return the head that is best on `held_out`, and a row of the log per decay."""
    heads, rows = [], []
    for number, decay in enumerate(decays, start=1):
        started = time.perf_counter()
        head, loss = fit_head(found, decay)
        heads.append(head)
        rows.append(
            {
                "try": number,
                "loss": loss,
                "accuracy": accuracy(head, found),
                "calibration_pool_accuracy": accuracy(head, held_out),
                "seconds": time.perf_counter() - started,
            }
        )
        print(f"decay {decay:g}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[-1].items()), flush=True)
    return heads[best_row(rows)], rows


def best_row(rows: list[Row]) -> int:
    """Return the place of the best row, the first of equal ones."""
    return max(range(len(rows)), key=lambda row: rows[row]["calibration_pool_accuracy"])


def fit_head(found: Features, decay: float) -> tuple[nn.Linear, float]:
    """Return the head with the least mean cross-entropy + decay x squared norm, and its loss.

    The norm is that of the weights on features brought to mean 0 and variance 1; the head returned reads plain ones.
    """
    inputs, labels = found["features"], found["labels"]
    mean, std = inputs.mean(dim=0), inputs.std(dim=0).clamp_min(1e-6)
    inputs = (inputs - mean) / std
    head = nn.Linear(inputs.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(head.parameters(), max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(head(inputs), labels) + decay * head.weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)
    loss = float(closure().detach())
    with torch.no_grad():
        head.weight.div_(std)
        head.bias.sub_(head.weight @ mean)
    return head, loss


def accuracy(head: nn.Linear, found: Features) -> float:
    """Return the top-1 accuracy in percent."""
    with torch.no_grad():
        return 100.0 * float((head(found["features"]).argmax(1) == found["labels"]).float().mean())


def publish(entry: PretrainedClassifier, head: nn.Linear, rows: list[Row], facts: dict[str, Any], out: Path) -> None:
    """Write the head, its facts and its log."""
    content = save(head.state_dict(), metadata={key: json.dumps(value) for key, value in facts.items()})
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / f"{entry.name}.safetensors", content)
    write_facts(out / f"{entry.name}.json", facts | {"sha256": hashlib.sha256(content).hexdigest()})
    write_log(out / f"{entry.name}.log.csv", rows)


def main(
    model: Annotated[str, typer.Argument(help="One of the pretrained models.")],
    images: Annotated[int, typer.Option(help="Training composites.")] = HeadRecipe.images,
    seed: Annotated[int, typer.Option(help="Seed of the composites.")] = HeadRecipe.seed,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    work: Annotated[Path, typer.Option(help="Folder for features and generated data.")] = Path("mini_train"),
    out: Annotated[Path, typer.Option(help="Folder for the finished head.")] = WEIGHTS,
) -> None:
    """Train a head, evaluate it and write it; run again after an interruption to continue."""
    if model not in PRETRAINED:
        raise typer.BadParameter(f"unknown model {model!r}; known: {', '.join(PRETRAINED)}")
    entry, recipe, place = PRETRAINED[model], HeadRecipe(images=images, seed=seed), choose_device(device, threads)
    set_fused_attn(enable=place.type != "cpu")
    kept = KeptFeatures(entry, work, place)
    steps = track(
        kept.training(recipe), f"features of {images:,} images", chunks_of(recipe), console=Console(stderr=True)
    )
    parts = list(steps)
    found = {name: torch.cat([part[name] for part in parts])[:images] for name in ("features", "labels")}
    head, rows = choose_head(found, kept.split("train"), recipe.decays)
    top1 = round(accuracy(head, kept.split("val")), 4)
    facts = {
        "model": entry.name,
        "top1": top1,
        "backbone": entry.backbone,
        "recipe": asdict(recipe),
        "decay": recipe.decays[best_row(rows)],
        "device": device_name(place),
    }
    publish(entry, head, rows, facts, out)
    print(f"{model}: top-1 {top1:.2f} % on the evaluation images, head in {out}", flush=True)


if __name__ == "__main__":
    typer.run(main)
