"""Train an embedded detector or segmenter: `python -m vitptq.tasks.mini.training.scene_model mini_mask_rcnn_swin`.

The backbone starts from the embedded classification Swin. Every step draws new scenes from the fit pool. Scenes of the
calibration pool show how the training goes; the evaluation scenes are looked at once, after the last step, and choose
nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import typer
from safetensors.torch import load_file
from torch import Tensor

from vitptq.tasks.mini.data import scenes
from vitptq.tasks.mini.data.compose_scene import Scene
from vitptq.tasks.mini.detection import MiniCoco
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS
from vitptq.tasks.mini.models.scene_models import SCENE_MODELS, SceneModel, halved, widened
from vitptq.tasks.mini.models.shipped import WEIGHTS, facts
from vitptq.tasks.mini.models.swin_conversion import openmmlab_swin_state
from vitptq.tasks.mini.scene_edition import SceneTask
from vitptq.tasks.mini.segmentation import MiniAde20k
from vitptq.tasks.mini.training.command import choose_device, readable, train_and_publish
from vitptq.tasks.mini.training.files import write_facts
from vitptq.tasks.mini.training.loop import Recipe, Row, State, Training, clock, device_name
from vitptq.tasks.mini.training.model_input import model_input
from vitptq.tasks.mini.training.scene_batches import Batch, detection_samples, fit_batch, segmentation_samples
from vitptq.tasks.mini.training.scene_scores import scores_on
from vitptq.tasks.mini.training.steps import learning_rate, stream_seed, update
from vitptq.tasks.openmmlab.libraries import library
from vitptq.tasks.openmmlab.operators import ensure_ops

_ROW = 50
_LOOK = 64


@dataclass(frozen=True)
class SceneRecipe(Recipe):
    """What decides the weights of a detector or segmenter."""

    steps: int = 4000
    batch: int = 16
    warmup: int = 200
    clip: float = 5.0
    start: str = ""
    """The sha256 of weights that the run begins with; none: a new model on the embedded classification Swin."""


class SceneTraining(Training[SceneRecipe, Batch]):
    """The model's own losses on scenes."""

    unit: ClassVar[str] = "step"
    checkpoint_seconds: ClassVar[float] = 60.0

    def __init__(
        self,
        name: str,
        recipe: SceneRecipe,
        device: torch.device,
        *,
        start: Path | None = None,
        look_every: int = 0,
        count: int = scenes.DATA.standard.val,
    ) -> None:
        """Begin with the weights `start`; look at calibration scenes every `look_every` steps (0: never).

        The published scores are those on the first `count` evaluation scenes.
        """
        super().__init__(name, recipe, device)
        self.entry = SCENE_MODELS[name]
        self.start = start
        self.look_every = look_every
        self.count = count

    @property
    def length(self) -> int:
        """Return the number of steps."""
        return self.recipe.steps

    def initial_model(self) -> Any:
        """Return the model on the backbone of the classification Swin, or with the weights to begin with."""
        model = fresh_model(self.entry)
        if self.start is not None:
            model.load_state_dict(widened(load_file(self.start)))
        model = model.to(self.device)
        if self.recipe.bfloat16:
            _in_bfloat16(model, self.device)
        return model

    def image_maker(self) -> Callable[[int], Batch]:
        """Return the function that makes the scenes of a step."""
        return partial(fit_batch, self.recipe.seed, self.recipe.batch)

    def advance(self, state: State, images: Iterator[Batch], last: int) -> Row:
        """Train up to the next multiple of `_ROW` steps."""
        started, first = time.perf_counter(), self.done(state)
        end = min(last, (first // _ROW + 1) * _ROW)
        state.model.train()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with _fast():
            for step in range(first, end):
                total += self._step(state, next(images), step)
        loss = float(total) / (end - first)
        if not math.isfinite(loss):
            raise FloatingPointError(f"{self.name}: the loss is {loss} near step {end}; try a lower --rate")
        seconds = time.perf_counter() - started
        return {"step": end, "loss": loss, "seconds": seconds, "steps_per_second": (end - first) / seconds}

    def _step(self, state: State, batch: Batch, step: int) -> Tensor:
        """Update the weights; return the loss, float64."""
        recipe = self.recipe
        # Seeded per step, so that sampled regions and dropout do not need their generators in the checkpoint.
        torch.manual_seed(stream_seed(recipe.seed, step, 2))
        to_samples = {"coco": detection_samples, "ade20k": segmentation_samples}[self.entry.task]
        images = model_input(batch.images, self.device)
        loss = _total(state.model.loss(images, to_samples(batch.scenes, self.device)))
        warmup = min(recipe.warmup, recipe.steps // 4)
        rate = learning_rate(recipe.rate, step, recipe.steps, warmup=warmup, first=1)
        update(state.model, state.optimiser, loss, rate=rate, clip=recipe.clip)
        return loss.detach().double()

    def progress(self, state: State) -> str:
        """Return the last row, readable, and now and then the scores on calibration scenes."""
        row, done = state.history[-1], self.done(state)
        remaining = clock((self.length - done) / row["steps_per_second"])
        line = (
            f"{self.name} step {done}/{self.length}  loss {row['loss']:.4f}  {row['steps_per_second']:.2f} steps/s  "
            f"remaining {remaining}"
        )
        if not self.look_every or (done % self.look_every >= _ROW and done != self.length):
            return line
        return f"{line}\n{self.name} step {done}  calibration scenes: {readable(self._on(state.model, 'train', _LOOK))}"

    def stored(self, model: Any) -> dict[str, Tensor]:
        """Return the tensors with floats in 16 bits; the model has their values afterwards."""
        tensors = halved(model.state_dict())
        model.load_state_dict(widened(tensors))
        return tensors

    def origin(self) -> dict[str, Any]:
        """Return the facts of the weights that the training began with."""
        if self.start is None:
            return {}
        return {"earlier": json.loads(self.start.with_suffix(".json").read_text(encoding="utf-8"))}

    def scores(self, model: Any) -> dict[str, float]:
        """Return the scores on evaluation scenes from memory; what a model is held to comes from `measure`."""
        return self._on(model, "val", self.count)

    def facts_of(self, scores: dict[str, float], model: Any) -> dict[str, Any]:
        """Return the scores and how they came about."""
        return {"scores": scores, "scored": f"{self.count} scenes in memory"}

    def _on(self, model: Any, split: scenes.Split, count: int) -> dict[str, float]:
        model.eval()
        looked_at: tuple[Scene, ...] = tuple(scenes.scenes(split, count))
        return scores_on(model, self.entry.task, looked_at, self.device)


def measure(name: str, device: torch.device) -> dict[str, float]:
    """Score the shipped weights as the benchmark does, write the scores into their facts, and return them."""
    return score_shipped({"coco": MiniCoco, "ade20k": MiniAde20k}[SCENE_MODELS[name].task](), name, device)


def score_shipped(task: SceneTask, name: str, device: torch.device) -> dict[str, float]:
    """Score a shipped model of a task, write the scores into its facts, and return them."""
    task.prepare()
    found = task.evaluate(task.load(name, device), name, device, lambda done, total: None)
    scores = {key: round(value, 4) for key, value in task.score(found).items()}
    known = facts(name) | {"scores": scores, "scored": f"as the benchmark does, on {device_name(device)}"}
    write_facts(WEIGHTS / f"{name}.json", known)
    return scores


def fresh_model(entry: SceneModel) -> Any:
    """Return an untrained model on the backbone of the embedded classification Swin."""
    with library(entry.scope) as registry:
        from mmengine.config import ConfigDict
        from mmengine.logging import MMLogger

        # It would print a line for every parameter.
        MMLogger.get_current_instance().setLevel("WARNING")
        model = registry.MODELS.build(ConfigDict(entry.config()))
        model.init_weights()
    state = openmmlab_swin_state(CLASSIFIERS["mini_swin"].state(), window=4)
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


def _total(losses: dict[str, Any]) -> Tensor:
    """Return the sum of what OpenMMLab calls a loss; accuracies stand beside them."""
    parts: list[Tensor] = []
    for key, value in losses.items():
        if "loss" in key:
            parts.extend(value if isinstance(value, list) else [value])
    return torch.stack([part.float().mean() for part in parts]).sum()


@contextmanager
def _fast() -> Iterator[None]:
    """Let a GPU multiply with TF32, which is good enough for training."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False


def main(
    model: Annotated[str, typer.Argument(help="One of the scene models.")],
    steps: Annotated[int, typer.Option(help="Number of steps.")] = SceneRecipe.steps,
    batch: Annotated[int, typer.Option(help="Scenes per step.")] = SceneRecipe.batch,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = SceneRecipe.rate,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = SceneRecipe.decay,
    warmup: Annotated[int, typer.Option(help="Steps in which the rate rises.")] = SceneRecipe.warmup,
    bfloat16: Annotated[
        bool, typer.Option(help="Run backbone and neck under bfloat16 autocast.")
    ] = SceneRecipe.bfloat16,
    seed: Annotated[int, typer.Option(help="Seed of weights and scenes.")] = SceneRecipe.seed,
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
    place = choose_device(device, threads)
    ensure_ops(place)
    if not score:
        recipe = SceneRecipe(
            steps=steps,
            batch=batch,
            rate=rate,
            decay=decay,
            warmup=warmup,
            bfloat16=bfloat16,
            seed=seed,
            start=hashlib.sha256(start.read_bytes()).hexdigest() if start else "",
        )
        scores = train_and_publish(
            lambda chosen: SceneTraining(model, chosen, place, start=start, look_every=look),
            recipe,
            model,
            work=work,
            out=out,
            minutes=minutes,
            workers=workers,
            export=export,
        )
        if scores is None or out.resolve() != WEIGHTS.resolve():
            return
    print(f"{model}: {readable(measure(model, place))} on the evaluation scenes, as the benchmark scores", flush=True)


if __name__ == "__main__":
    typer.run(main)
