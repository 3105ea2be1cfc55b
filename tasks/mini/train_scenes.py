"""Train an embedded detector or segmenter: `python -m vitptq.tasks.mini.train_scenes mini_mask_rcnn_swin`.

The backbone starts from the embedded classification Swin. Every step draws new scenes from the fit pool. What a step
does depends on the seed, its number and the weights before it only, so on a CPU a killed run that is started again ends
with the weights of an undisturbed one. Scenes of the calibration pool show how the training goes; the evaluation scenes
are looked at once, after the last step, and choose nothing.
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
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vitptq.tasks.mini.compose_scene import Scene
from vitptq.tasks.mini.detection import MiniCoco
from vitptq.tasks.mini.epochs import ahead
from vitptq.tasks.mini.models import WEIGHTS
from vitptq.tasks.mini.scene_batches import Batch, detection_samples, fit_batch, model_input, segmentation_samples
from vitptq.tasks.mini.scene_models import SCENE_MODELS, SceneModel, halved, widened
from vitptq.tasks.mini.scene_models import facts as facts_of
from vitptq.tasks.mini.scene_scores import scores_on
from vitptq.tasks.mini.scenes import STANDARD, scenes
from vitptq.tasks.mini.segmentation import MiniAde20k
from vitptq.tasks.mini.swin_conversion import openmmlab_swin_state
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
from vitptq.tasks.openmmlab.operators import ensure_ops
from vitptq.tasks.openmmlab.runtime import library

_CHECKPOINT_SECONDS = 60.0
_ROW = 50
_LOOK = 64


# No slots: the command line below reads its defaults from the class.
@dataclass(frozen=True)
class Recipe:
    """What decides the weights; stored beside them."""

    steps: int = 4000
    batch: int = 16
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 200
    clip: float = 5.0
    bfloat16: bool = False
    seed: int = 0
    start: str = ""
    """The sha256 of weights that the run begins with; none: a new model on the embedded classification Swin."""


@dataclass(slots=True)
class State:
    """Everything that a resumed run needs."""

    model: Any  # of mmdet or mmseg, whose methods nn.Module does not promise
    optimiser: torch.optim.Optimizer
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)


def train(
    name: str,
    recipe: Recipe,
    work: Path,
    *,
    device: torch.device,
    until: int | None = None,
    minutes: float = math.inf,
    workers: int = 0,
    look_every: int = 0,
    start: Path | None = None,
) -> State:
    """Return the trained state, continuing from the checkpoint in `work` if there is one.

    Stops after step `until`, or when `minutes` have passed. `workers` processes make the scenes. Every `look_every`
    steps, scores on scenes of the calibration pool are printed.
    """
    started = saved = time.perf_counter()
    state = _restore(name, recipe, work, device, start)
    if (place := device_name(device)) not in state.devices:
        state.devices.append(place)
    looked_at = tuple(scenes("train", _LOOK)) if look_every else ()
    last = min(recipe.steps, until or recipe.steps)
    with closing(ahead(partial(fit_batch, recipe.seed, recipe.batch), range(state.step, last), workers)) as batches:
        while state.step < last and time.perf_counter() - started < 60 * minutes:
            _train_row(state, SCENE_MODELS[name], recipe, batches, device, last)
            _report(name, recipe, state)
            if look_every and (state.step % look_every < _ROW or state.step == last):
                print(
                    f"{name} step {state.step}  calibration scenes: {_look(state, name, looked_at, device)}", flush=True
                )
            if time.perf_counter() - saved >= _CHECKPOINT_SECONDS:
                _save_checkpoint(state, name, recipe, work)
                saved = time.perf_counter()
    _save_checkpoint(state, name, recipe, work)
    return state


def publish(
    state: State,
    name: str,
    recipe: Recipe,
    out: Path,
    *,
    device: torch.device,
    count: int = STANDARD.val,
    start: Path | None = None,
) -> dict[str, float]:
    """Write weights, log and facts to `out`; return the scores on the first `count` evaluation scenes.

    These scenes come from memory. The scores that a model is held to are those of `measure`, which reads the files.
    """
    tensors = halved(state.model.state_dict())
    # What is scored is what is stored.
    state.model.load_state_dict(widened(tensors))
    state.model.eval()
    scores = scores_on(state.model, SCENE_MODELS[name].task, tuple(scenes("val", count)), device)
    facts: dict[str, Any] = {
        "model": name,
        "steps_done": state.step,
        "recipe": asdict(recipe),
        "train_seconds": round(sum(row["seconds"] for row in state.history)),
        "device": ", ".join(state.devices),
    }
    if start is not None:
        facts["earlier"] = json.loads(start.with_suffix(".json").read_text(encoding="utf-8"))
    content = save(tensors, metadata={key: json.dumps(value) for key, value in facts.items()})
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    facts["scores"] = {key: round(value, 4) for key, value in scores.items()}
    facts["scored"] = f"{count} scenes in memory"
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / f"{name}.safetensors", content)
    _write_facts(out / f"{name}.json", facts)
    _write_log(out / f"{name}.log.csv", state.history)
    return scores


def measure(name: str, device: torch.device) -> dict[str, float]:
    """Score the shipped weights as the benchmark does, write the scores into their facts, and return them."""
    entry = SCENE_MODELS[name]
    task = {"coco": MiniCoco, "ade20k": MiniAde20k}[entry.task]()
    task.prepare()
    found = task.evaluate(task.load(name, device), name, device, lambda done, total: None)
    scores = {key: round(value, 4) for key, value in task.score(found).items()}
    known = facts_of(name)
    known |= {"scores": scores, "scored": f"as the benchmark does, on {device_name(device)}"}
    _write_facts(WEIGHTS / f"{name}.json", known)
    return scores


def _write_facts(path: Path, facts: dict[str, Any]) -> None:
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
    replace_file(path, f"{{\n{lines}\n}}\n".encode())


def main(
    model: Annotated[str, typer.Argument(help="One of the scene models.")],
    steps: Annotated[int, typer.Option(help="Number of steps.")] = Recipe.steps,
    batch: Annotated[int, typer.Option(help="Scenes per step.")] = Recipe.batch,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = Recipe.rate,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = Recipe.decay,
    warmup: Annotated[int, typer.Option(help="Steps in which the rate rises.")] = Recipe.warmup,
    bfloat16: Annotated[bool, typer.Option(help="Run backbone and neck under bfloat16 autocast.")] = Recipe.bfloat16,
    seed: Annotated[int, typer.Option(help="Seed of weights and scenes.")] = Recipe.seed,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    workers: Annotated[
        int, typer.Option(help="Processes that make scenes ahead; -1: none for a CPU, up to 4 for a GPU.")
    ] = -1,
    minutes: Annotated[float, typer.Option(help="Stop with a checkpoint after so many minutes.")] = math.inf,
    look: Annotated[int, typer.Option(help="Steps between looks at calibration scenes; 0: never.")] = 500,
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("mini_train"),
    out: Annotated[Path, typer.Option(help="Folder for the finished weights.")] = WEIGHTS,
    start: Annotated[
        Path | None, typer.Option(help="Begin with these weights, <name>.safetensors, instead of a new model.")
    ] = None,
    export: Annotated[bool, typer.Option(help="Only publish the last checkpoint, finished or not.")] = False,
    score: Annotated[bool, typer.Option(help="Only score the shipped weights as the benchmark does.")] = False,
) -> None:
    """Train a model, evaluate it and write its weights; run again after an interruption to continue."""
    if model not in SCENE_MODELS:
        raise typer.BadParameter(f"unknown model {model!r}; known: {', '.join(SCENE_MODELS)}")
    if threads:
        torch.set_num_threads(threads)
    place = choose_device(device)
    ensure_ops(place)
    if score:
        print(f"{model}: {_readable(measure(model, place))} on the evaluation scenes")
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    if export:
        recipe = Recipe(**read_checkpoint(checkpoint_file(model, work))["recipe"])
        state = _restore(model, recipe, work, place, start)
    else:
        recipe = Recipe(
            steps=steps,
            batch=batch,
            rate=rate,
            decay=decay,
            warmup=warmup,
            bfloat16=bfloat16,
            seed=seed,
            start=hashlib.sha256(start.read_bytes()).hexdigest() if start else "",
        )
        state = train(
            model,
            recipe,
            work,
            device=place,
            minutes=minutes,
            workers=choose_workers(workers, place),
            look_every=look,
            start=start,
        )
        if state.step < recipe.steps:
            print(f"{model}: stopped after step {state.step} of {recipe.steps}; the same command continues", flush=True)
            return
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    scores = publish(state, model, recipe, out, device=place, start=start)
    if out.resolve() == WEIGHTS.resolve():
        scores = measure(model, place)
    print(
        f"{model}: {_readable(scores)} on the evaluation scenes after {state.step} steps, weights in {out}", flush=True
    )


def _train_row(
    state: State, entry: SceneModel, recipe: Recipe, batches: Iterator[Batch], device: torch.device, last: int
) -> None:
    """Run the steps up to the next row of the log and add the row."""
    started, first = time.perf_counter(), state.step
    state.model.train()
    total = torch.zeros((), dtype=torch.float64, device=device)
    while state.step < min(last, (first // _ROW + 1) * _ROW):
        total += _step(state, entry, recipe, next(batches), device)
        state.step += 1
    done = state.step - first
    loss = float(total) / done
    seconds = time.perf_counter() - started
    state.history.append({"step": state.step, "loss": loss, "seconds": seconds, "steps_per_second": done / seconds})
    if not math.isfinite(loss):
        raise FloatingPointError(f"{entry.name}: the loss is {loss} near step {state.step}; try a lower --rate")


def _step(state: State, entry: SceneModel, recipe: Recipe, batch: Batch, device: torch.device) -> Tensor:
    """Update the weights; return the loss, float64."""
    # Seeded per step, so that sampled regions and dropout do not need their generators in the checkpoint.
    torch.manual_seed(_step_seed(recipe, state.step, 2))
    for group in state.optimiser.param_groups:
        group["lr"] = _rate(recipe, state.step)
    to_samples = {"coco": detection_samples, "ade20k": segmentation_samples}[entry.task]
    images = model_input(batch.images, device)
    losses = state.model.loss(images, to_samples(batch.scenes, device))
    loss = _total(losses)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
    state.optimiser.step()
    return loss.detach().double()


def _total(losses: dict[str, Any]) -> Tensor:
    """Return the sum of what OpenMMLab calls a loss; accuracies stand beside them."""
    parts: list[Tensor] = []
    for key, value in losses.items():
        if "loss" in key:
            parts.extend(value if isinstance(value, list) else [value])
    return torch.stack([part.float().mean() for part in parts]).sum()


def _rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine to zero."""
    warmup = min(recipe.warmup, recipe.steps // 4)
    if step < warmup:
        return recipe.rate * (step + 1) / warmup
    return recipe.rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (recipe.steps - warmup)))


def _look(state: State, name: str, looked_at: tuple[Scene, ...], device: torch.device) -> str:
    state.model.eval()
    return _readable(scores_on(state.model, SCENE_MODELS[name].task, looked_at, device))


def _readable(scores: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.2f} %" for key, value in scores.items())


def _report(name: str, recipe: Recipe, state: State) -> None:
    row = state.history[-1]
    remaining = clock((recipe.steps - state.step) / row["steps_per_second"])
    print(
        f"{name} step {state.step}/{recipe.steps}  loss {row['loss']:.4f}  {row['steps_per_second']:.2f} steps/s  "
        f"remaining {remaining}",
        flush=True,
    )


def fresh_model(entry: SceneModel) -> Any:
    """Return an untrained model on the backbone of the embedded classification Swin."""
    with library(entry.scope) as registry:
        from mmengine.config import ConfigDict
        from mmengine.logging import MMLogger

        # It would print a line for every parameter.
        MMLogger.get_current_instance().setLevel("WARNING")
        model = registry.MODELS.build(ConfigDict(entry.config()))
        model.init_weights()
    state = openmmlab_swin_state(load_file(WEIGHTS / "mini_swin.safetensors"), window=4)
    _, unexpected = model.backbone.load_state_dict(state, strict=False)
    if unexpected:
        raise KeyError(f"{entry.name}: the backbone has no {', '.join(unexpected)}")
    return model


def _in_bfloat16(model: Any, device: torch.device) -> None:
    """Run backbone and neck under autocast; heads and losses stay in float32."""
    extract = model.extract_feat

    def extract_feat(inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16):
            features = extract(inputs)
        return tuple(feature.float() for feature in features)

    vars(model)["extract_feat"] = extract_feat


def _step_seed(recipe: Recipe, step: int, stream: int) -> int:
    return int(np.random.SeedSequence([recipe.seed, step, stream]).generate_state(1)[0])


def _fresh(name: str, recipe: Recipe, device: torch.device, start: Path | None) -> State:
    torch.manual_seed(_step_seed(recipe, 0, 1))
    model = fresh_model(SCENE_MODELS[name])
    if start is not None:
        model.load_state_dict(widened(load_file(start)))
    model = model.to(device)
    if recipe.bfloat16:
        _in_bfloat16(model, device)
    groups = parameter_groups(model, recipe.decay)
    return State(model, torch.optim.AdamW(groups, lr=recipe.rate, fused=device.type == "cuda"))


def _restore(name: str, recipe: Recipe, work: Path, device: torch.device, start: Path | None = None) -> State:
    state = _fresh(name, recipe, device, start)
    path = checkpoint_file(name, work)
    if path.exists():
        saved = read_checkpoint(path)
        refuse_other_recipe(path, saved["recipe"], asdict(recipe))
        state.model.load_state_dict(saved["model"])
        state.optimiser.load_state_dict(saved["optimiser"])
        state.step = saved["step"]
        state.history.extend(saved["history"])
        state.devices.extend(saved["devices"])
    return state


def _save_checkpoint(state: State, name: str, recipe: Recipe, work: Path) -> None:
    content = {
        "recipe": asdict(recipe),
        "model": state.model.state_dict(),
        "optimiser": state.optimiser.state_dict(),
        "step": state.step,
        "history": state.history,
        "devices": state.devices,
    }
    write_checkpoint(checkpoint_file(name, work), content)


def _write_log(path: Path, history: list[dict[str, float]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(history[0])
        writer.writerows([int(row["step"]), *(f"{value:.4f}" for value in list(row.values())[1:])] for row in history)


if __name__ == "__main__":
    typer.run(main)
