"""Train a model of the embedded edition: `python -m tasks.mini.train mini_vit`.

Every epoch draws new composites from the fit pool. What an epoch does depends on the seed, its number and the
checkpoint before it only, so a killed run that is started again ends with the weights of an undisturbed one. The
evaluation images are looked at once, after the last epoch, and choose nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save
from timm.layers.config import set_fused_attn
from torch import nn
from torch.nn import functional

from tasks.mini import outlier
from tasks.mini.compose import HARD, STANDARD, compose
from tasks.mini.data import Split, generate, read_split
from tasks.mini.material import Bytes, Digits, digits
from tasks.mini.models import MEAN, MODELS, STD, WEIGHTS

_RANGE_SAMPLE = 512


# No slots: the command line below reads its defaults from the class.
@dataclass(frozen=True)
class Recipe:
    """What decides the weights; stored beside them."""

    epochs: int = 100
    images: int = 5000
    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 4
    smoothing: float = 0.1
    clip: float = 1.0
    calm: float = 0.25
    hard: int = 0
    bfloat16: bool = False
    seed: int = 0


@dataclass(slots=True)
class State:
    """Everything that a resumed run needs."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    history: list[dict[str, float]]

    @property
    def epoch(self) -> int:
        """Return the number of finished epochs."""
        return len(self.history)


def train(name: str, recipe: Recipe, work: Path, *, device: torch.device, until: int | None = None) -> State:
    """Return the trained state, continuing from the checkpoint in `work` if there is one; stop after epoch `until`."""
    state = _restore(name, recipe, work, device)
    console = Console()
    while state.epoch < min(recipe.epochs, until or recipe.epochs):
        row = _train_epoch(state, recipe, device, console)
        state.history.append(row)
        _save_checkpoint(state, name, recipe, work)
        remaining = _clock((recipe.epochs - state.epoch) * row["seconds"])
        print(
            f"{name} epoch {state.epoch}/{recipe.epochs}  loss {row['loss']:.4f}  "
            f"train accuracy {row['accuracy']:.2f} %  {row['images_per_second']:.0f} images/s  {row['seconds']:.1f} s  "
            f"remaining {remaining}",
            flush=True,
        )
    return state


def evaluate(model: nn.Module, split: Split, *, device: torch.device, batch: int = 250) -> float:
    """Return the top-1 accuracy in percent, in float32."""
    model.eval()
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(split.labels), batch):
            images = normalise(split.images[start : start + batch], device)
            predicted = model(images).argmax(1).cpu().numpy()
            correct += int((predicted == split.labels[start : start + batch]).sum())
    return 100.0 * correct / len(split.labels)


def normalise(images: Bytes, device: torch.device) -> torch.Tensor:
    """Return images (N, H, W, 3) as the models' input (N, 3, H, W)."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(255)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    return pixels.sub_(mean).div_(torch.tensor(STD, device=device).view(1, 3, 1, 1)).contiguous()


def publish(state: State, name: str, recipe: Recipe, data: Path, out: Path, *, device: torch.device) -> float:
    """Write weights, log and facts to `out`; return the accuracy on the evaluation images."""
    top1 = evaluate(state.model, read_split(data, "val"), device=device)
    facts: dict[str, Any] = {
        "model": name,
        "top1": round(top1, 4),
        "epochs_done": state.epoch,
        "recipe": asdict(recipe),
        "train_seconds": round(sum(row["seconds"] for row in state.history)),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.model.state_dict().items()}
    content = save(tensors, metadata={key: json.dumps(value) for key, value in facts.items()})
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    if any(entry.outlier and entry.trained_as == name for entry in MODELS.values()):
        facts["outlier_plan"] = _plan(state.model, device)
    out.mkdir(parents=True, exist_ok=True)
    _replace(out / f"{name}.safetensors", content)
    _replace(out / f"{name}.json", _readable(facts).encode())
    _write_log(out / f"{name}.log.csv", state.history)
    return top1


def main(
    model: Annotated[str, typer.Argument(help="One of the trained models.")],
    epochs: Annotated[int, typer.Option(help="Number of epochs.")] = Recipe.epochs,
    images: Annotated[int, typer.Option(help="New composites per epoch.")] = Recipe.images,
    batch: Annotated[int, typer.Option(help="Images per step.")] = Recipe.batch,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = Recipe.rate,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = Recipe.decay,
    hard: Annotated[int, typer.Option(help="First epochs with smaller, fainter digits.")] = Recipe.hard,
    bfloat16: Annotated[bool, typer.Option(help="Run the forward pass under bfloat16 autocast.")] = Recipe.bfloat16,
    seed: Annotated[int, typer.Option(help="Seed of weights and composites.")] = Recipe.seed,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    work: Annotated[Path, typer.Option(help="Folder for checkpoints and generated data.")] = Path("mini_train"),
    out: Annotated[Path, typer.Option(help="Folder for the finished weights.")] = WEIGHTS,
    export: Annotated[bool, typer.Option(help="Only publish the last checkpoint, finished or not.")] = False,
) -> None:
    """Train a model, evaluate it and write its weights; run again after an interruption to continue."""
    known = sorted({entry.trained_as for entry in MODELS.values()})
    if model not in known:
        raise typer.BadParameter(f"unknown model {model!r}; known: {', '.join(known)}")
    if threads:
        torch.set_num_threads(threads)
    place = _device(device)
    if place.type == "cpu":
        # torch 2.11's fused attention on the CPU needs twice the time of the plain one for so few tokens.
        set_fused_attn(enable=False)
    if export:
        recipe = Recipe(**_read_checkpoint(_checkpoint(model, work))["recipe"])
        state = _restore(model, recipe, work, place)
    else:
        recipe = Recipe(
            epochs=epochs,
            images=images,
            batch=batch,
            rate=rate,
            decay=decay,
            hard=hard,
            bfloat16=bfloat16,
            seed=seed,
        )
        state = train(model, recipe, work, device=place)
    data = generate(work / "imagenet")
    top1 = publish(state, model, recipe, data, out, device=place)
    print(
        f"{model}: top-1 {top1:.2f} % on the evaluation images after {state.epoch} epochs, weights in {out}", flush=True
    )


def _train_epoch(state: State, recipe: Recipe, device: torch.device, console: Console) -> dict[str, float]:
    started = time.perf_counter()
    images, labels = epoch_images(recipe, state.epoch)
    # Seeded per epoch, so that stochastic layers do not need their generators in the checkpoint.
    torch.manual_seed(_epoch_seed(recipe, state.epoch, 2))
    state.model.train()
    steps = math.ceil(len(labels) / recipe.batch)
    loss_sum, correct = 0.0, 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for step in bar.track(range(steps), description=f"epoch {state.epoch + 1}"):
            part = slice(step * recipe.batch, (step + 1) * recipe.batch)
            rate = _rate(recipe, state.epoch + step / steps)
            loss, hits = _step(
                state, recipe, normalise(images[part], device), torch.from_numpy(labels[part]).to(device), rate
            )
            loss_sum += loss * len(labels[part])
            correct += hits
    seconds = time.perf_counter() - started
    return {
        "loss": loss_sum / len(labels),
        "accuracy": 100.0 * correct / len(labels),
        "seconds": seconds,
        "images_per_second": len(labels) / seconds,
    }


def _step(state: State, recipe: Recipe, images: torch.Tensor, labels: torch.Tensor, rate: float) -> tuple[float, int]:
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.bfloat16):
        logits = state.model(images)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.smoothing)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    state.optimiser.step()
    return float(loss.detach()), int((logits.argmax(1) == labels).sum())


def epoch_images(recipe: Recipe, epoch: int) -> tuple[Bytes, np.typing.NDArray[np.int64]]:
    """Return the composites and labels of one epoch: digits of the fit pool, each warped anew, in random order."""
    generator = np.random.Generator(np.random.PCG64([recipe.seed, epoch, 0]))
    pool = digits("fit")
    order = np.concatenate(
        [generator.permutation(len(pool.labels)) for _ in range(-(-recipe.images // len(pool.labels)))]
    )
    rows = order[: recipe.images]
    warped = _warp(pool.images[rows], generator)
    composites = compose(
        "fit",
        np.arange(len(rows)),
        generator,
        material=Digits(warped, pool.labels[rows], pool.rows[rows]),
        difficulty=HARD if epoch < recipe.hard else STANDARD,
        clutter=_clutter(recipe, epoch),
    )
    return composites.images, composites.labels


def _clutter(recipe: Recipe, epoch: int) -> float:
    """Return how much of the photographs' contrast is shown: from none to all over the first `calm` of the epochs."""
    # On full backgrounds from the start, the transformers stay at chance for many epochs.
    return min(1.0, epoch / max(1.0, recipe.calm * recipe.epochs))


def _warp(images: Bytes, generator: np.random.Generator) -> Bytes:
    """Return digits (N, 28, 28) rotated by up to 15 degrees and sheared by up to 0.2."""
    # 3,400 digits are few; without this the ViT learns them by heart.
    angle, shear = (generator.random((2, len(images))) * 2 - 1) * np.array([[math.pi / 12], [0.2]])
    cosine, sine, none = np.cos(angle), np.sin(angle), np.zeros(len(images))
    matrix = np.stack([cosine, shear * cosine - sine, none, sine, shear * sine + cosine, none], axis=1).reshape(
        -1, 2, 3
    )
    source = torch.from_numpy(images).float().unsqueeze(1)
    grid = functional.affine_grid(torch.from_numpy(matrix).float(), list(source.shape), align_corners=False)
    warped = functional.grid_sample(source, grid, align_corners=False)
    return warped.squeeze(1).round().clamp(0, 255).byte().numpy()


def _rate(recipe: Recipe, epoch: float) -> float:
    """Return the learning rate: linear warm-up, then a cosine to zero."""
    warmup = min(recipe.warmup, recipe.epochs / 4)
    if epoch < warmup:
        return recipe.rate * (epoch + 0.02) / warmup
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (recipe.epochs - warmup)))


def _epoch_seed(recipe: Recipe, epoch: int, stream: int) -> int:
    return int(np.random.SeedSequence([recipe.seed, epoch, stream]).generate_state(1)[0])


def _fresh(name: str, recipe: Recipe, device: torch.device) -> State:
    torch.manual_seed(_epoch_seed(recipe, 0, 1))
    model = MODELS[name].build().to(device)
    # Norms, biases and position tables are not decayed.
    decayed = [
        p for key, p in model.named_parameters() if p.ndim > 1 and "pos_embed" not in key and "bias_table" not in key
    ]
    kept = {id(p) for p in decayed}
    plain = [p for p in model.parameters() if id(p) not in kept]
    groups = [{"params": decayed, "weight_decay": recipe.decay}, {"params": plain, "weight_decay": 0.0}]
    return State(model, torch.optim.AdamW(groups, lr=recipe.rate), [])


def _restore(name: str, recipe: Recipe, work: Path, device: torch.device) -> State:
    state = _fresh(name, recipe, device)
    path = _checkpoint(name, work)
    if path.exists():
        saved = _read_checkpoint(path)
        if saved["recipe"] != asdict(recipe):
            raise ValueError(
                f"{path} belongs to the recipe {saved['recipe']}, not {asdict(recipe)}; use another --work folder"
            )
        state.model.load_state_dict(saved["model"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.history.extend(saved["history"])
    return state


def _save_checkpoint(state: State, name: str, recipe: Recipe, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    path = _checkpoint(name, work)
    content = {
        "recipe": asdict(recipe),
        "model": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "history": state.history,
    }
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    partial.replace(path)


def _checkpoint(name: str, work: Path) -> Path:
    return work / f"{name}.checkpoint.pt"


def _read_checkpoint(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _plan(model: nn.Module, device: torch.device) -> outlier.Plan:
    images, _ = epoch_images(Recipe(images=_RANGE_SAMPLE), 0)
    return outlier.plan(model.eval(), normalise(images, device))


def _write_log(path: Path, history: list[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", *history[0]])
        writer.writerows(
            [epoch, *(f"{value:.4f}" for value in row.values())] for epoch, row in enumerate(history, start=1)
        )


def _readable(facts: dict[str, Any]) -> str:
    """Return the facts as JSON with one line per top-level key or planned layer."""
    plan = facts.get("outlier_plan")
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items() if key != "outlier_plan"]
    if plan is not None:
        layers = ",\n".join(f"    {json.dumps(name)}: {json.dumps(chosen)}" for name, chosen in plan.items())
        lines.append(f'  "outlier_plan": {{\n{layers}\n  }}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


if __name__ == "__main__":
    typer.run(main)
