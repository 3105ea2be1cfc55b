"""Train a model of the embedded edition: `python -m vitptq.tasks.mini.train mini_vit`.

Every epoch draws new composites from the fit pool. What an epoch does depends on the seed, its number and the
checkpoint before it only, so on a CPU a killed run that is started again ends with the weights of an undisturbed one.
The evaluation images are looked at once, after the last epoch, and choose nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cache, partial
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

from vitptq.tasks.mini import outlier
from vitptq.tasks.mini.data import Split, generate, read_split
from vitptq.tasks.mini.epochs import Epoch, Recipe, ahead, epoch_images
from vitptq.tasks.mini.material import Bytes
from vitptq.tasks.mini.models import MEAN, MODELS, STD, WEIGHTS
from vitptq.tasks.mini.training import (
    checkpoint_file,
    choose_device,
    choose_workers,
    clock,
    device_name,
    parameter_groups,
    read_checkpoint,
    refuse_other_recipe,
    replace_file,
    write_checkpoint,
)

_RANGE_SAMPLE = 512
_CHECKPOINT_SECONDS = 30.0


@dataclass(slots=True)
class State:
    """Everything that a resumed run needs."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    history: list[dict[str, float]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Return the number of finished epochs."""
        return len(self.history)


def train(
    name: str,
    recipe: Recipe,
    work: Path,
    *,
    device: torch.device,
    until: int | None = None,
    minutes: float = math.inf,
    workers: int = 0,
) -> State:
    """Return the trained state, continuing from the checkpoint in `work` if there is one.

    Stops after epoch `until`, or with the epoch in which `minutes` have passed. `workers` processes make the images.
    """
    started = saved = time.perf_counter()
    state = _restore(name, recipe, work, device)
    if (place := device_name(device)) not in state.devices:
        state.devices.append(place)
    console = Console()
    last = min(recipe.epochs, until or recipe.epochs)
    with closing(ahead(partial(epoch_images, recipe), range(state.epoch, last), workers)) as epochs:
        while state.epoch < last and time.perf_counter() - started < 60 * minutes:
            row = _train_epoch(state, recipe, epochs, device, console)
            state.history.append(row)
            if time.perf_counter() - saved >= _CHECKPOINT_SECONDS:
                _save_checkpoint(state, name, recipe, work)
                saved = time.perf_counter()
            _report(name, recipe, state)
    _save_checkpoint(state, name, recipe, work)
    return state


def evaluate(model: nn.Module, split: Split, *, device: torch.device, batch: int = 250) -> float:
    """Return the top-1 accuracy in percent, in float32."""
    model.eval()
    correct = 0
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(split.labels), batch):
            images = normalise(split.images[start : start + batch], device)
            predicted = model(images).argmax(1).cpu().numpy()
            correct += int((predicted == split.labels[start : start + batch]).sum())
    return 100.0 * correct / len(split.labels)


def normalise(images: Bytes, device: torch.device) -> torch.Tensor:
    """Return images (N, H, W, 3) as the models' input (N, 3, H, W)."""
    return _normalised(torch.from_numpy(images).to(device))


def publish(state: State, name: str, recipe: Recipe, data: Path, out: Path, *, device: torch.device) -> float:
    """Write weights, log and facts to `out`; return the accuracy on the evaluation images."""
    top1 = evaluate(state.model, read_split(data, "val"), device=device)
    facts: dict[str, Any] = {
        "model": name,
        "top1": round(top1, 4),
        "epochs_done": state.epoch,
        "recipe": asdict(recipe),
        "train_seconds": round(sum(row["seconds"] for row in state.history)),
        "device": ", ".join(state.devices),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.model.state_dict().items()}
    content = save(tensors, metadata={key: json.dumps(value) for key, value in facts.items()})
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    if any(entry.outlier and entry.trained_as == name for entry in MODELS.values()):
        facts["outlier_plan"] = _plan(state.model, device)
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / f"{name}.safetensors", content)
    replace_file(out / f"{name}.json", _readable(facts).encode())
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
    workers: Annotated[
        int, typer.Option(help="Processes that make images ahead; -1: none for a CPU, up to 4 for a GPU.")
    ] = -1,
    minutes: Annotated[float, typer.Option(help="Stop with a checkpoint after so many minutes.")] = math.inf,
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
    place = choose_device(device)
    if place.type == "cpu":
        # torch 2.11's fused attention on the CPU needs twice the time of the plain one for so few tokens.
        set_fused_attn(enable=False)
    else:
        torch.backends.cudnn.benchmark = True
    if export:
        recipe = Recipe(**read_checkpoint(checkpoint_file(model, work))["recipe"])
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
        state = train(model, recipe, work, device=place, minutes=minutes, workers=choose_workers(workers, place))
        if state.epoch < recipe.epochs:
            print(
                f"{model}: stopped after epoch {state.epoch} of {recipe.epochs}; the same command continues", flush=True
            )
            return
    data = generate(work / "imagenet")
    top1 = publish(state, model, recipe, data, out, device=place)
    print(
        f"{model}: top-1 {top1:.2f} % on the evaluation images after {state.epoch} epochs, weights in {out}", flush=True
    )


def _train_epoch(
    state: State, recipe: Recipe, epochs: Iterator[Epoch], device: torch.device, console: Console
) -> dict[str, float]:
    started = time.perf_counter()
    images, labels = (torch.from_numpy(part).to(device) for part in next(epochs))
    # Seeded per epoch, so that stochastic layers do not need their generators in the checkpoint.
    torch.manual_seed(_epoch_seed(recipe, state.epoch, 2))
    state.model.train()
    steps = math.ceil(len(labels) / recipe.batch)
    # Added up where the model is: reading a number in every step would make a GPU wait for the CPU.
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for step in bar.track(range(steps), description=f"epoch {state.epoch + 1}"):
            part = slice(step * recipe.batch, (step + 1) * recipe.batch)
            rate = _rate(recipe, state.epoch + step / steps)
            totals += _step(state, recipe, _normalised(images[part]), labels[part], rate)
    loss, hits = totals.tolist()
    seconds = time.perf_counter() - started
    return {
        "loss": loss / len(labels),
        "accuracy": 100.0 * hits / len(labels),
        "seconds": seconds,
        "images_per_second": len(labels) / seconds,
    }


def _step(state: State, recipe: Recipe, images: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
    """Update the weights; return the summed loss and the number of hits, shape (2,), float64."""
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.bfloat16):
        logits = state.model(images)
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.smoothing)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    state.optimiser.step()
    hits = (logits.detach().argmax(1) == labels).sum()
    return torch.stack([loss.detach().double() * len(labels), hits.double()])


def _normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = _statistics(pixels.device)
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std).contiguous()


@cache
def _statistics(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return mean, std


def _report(name: str, recipe: Recipe, state: State) -> None:
    row = state.history[-1]
    remaining = clock((recipe.epochs - state.epoch) * row["seconds"])
    print(
        f"{name} epoch {state.epoch}/{recipe.epochs}  loss {row['loss']:.4f}  "
        f"train accuracy {row['accuracy']:.2f} %  {row['images_per_second']:.0f} images/s  {row['seconds']:.1f} s  "
        f"remaining {remaining}",
        flush=True,
    )


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
    groups = parameter_groups(model, recipe.decay)
    return State(model, torch.optim.AdamW(groups, lr=recipe.rate, fused=device.type == "cuda"))


def _restore(name: str, recipe: Recipe, work: Path, device: torch.device) -> State:
    state = _fresh(name, recipe, device)
    path = checkpoint_file(name, work)
    if path.exists():
        saved = read_checkpoint(path)
        refuse_other_recipe(path, saved["recipe"], asdict(recipe))
        state.model.load_state_dict(saved["model"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.history.extend(saved["history"])
        state.devices.extend(saved["devices"])
    return state


def _save_checkpoint(state: State, name: str, recipe: Recipe, work: Path) -> None:
    content = {
        "recipe": asdict(recipe),
        "model": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "history": state.history,
        "devices": state.devices,
    }
    write_checkpoint(checkpoint_file(name, work), content)


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


if __name__ == "__main__":
    typer.run(main)
