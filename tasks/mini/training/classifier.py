"""Train an embedded classifier: `python -m vitptq.tasks.mini.training.classifier mini_vit`.

Every epoch draws new composites from the fit pool. The evaluation images are looked at once, after the last epoch, and
choose nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from timm.layers.config import set_fused_attn
from torch import Tensor, nn
from torch.nn import functional

from vitptq.tasks.mini.data import digit_images
from vitptq.tasks.mini.data.digit_images import Split
from vitptq.tasks.mini.models import outlier
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS
from vitptq.tasks.mini.models.shipped import WEIGHTS
from vitptq.tasks.mini.training.command import choose_device, train_and_publish
from vitptq.tasks.mini.training.epochs import ClassifierRecipe, Epoch, epoch_images
from vitptq.tasks.mini.training.loop import Row, State, Training, clock
from vitptq.tasks.mini.training.model_input import model_input, normalised
from vitptq.tasks.mini.training.steps import learning_rate, stream_seed, update

_RANGE_SAMPLE = 512


class ClassifierTraining(Training[ClassifierRecipe, Epoch]):
    """Cross-entropy with label smoothing on composites."""

    unit: ClassVar[str] = "epoch"
    checkpoint_seconds: ClassVar[float] = 30.0

    def __init__(
        self, name: str, recipe: ClassifierRecipe, device: torch.device, evaluation: Callable[[], Split]
    ) -> None:
        """Take the evaluation images from `evaluation` when the training is over."""
        super().__init__(name, recipe, device)
        self.evaluation = evaluation

    @property
    def length(self) -> int:
        """Return the number of epochs."""
        return self.recipe.epochs

    def initial_model(self) -> nn.Module:
        """Return the untrained model."""
        return CLASSIFIERS[self.name].build().to(self.device)

    def image_maker(self) -> Callable[[int], Epoch]:
        """Return the function that makes the images of an epoch."""
        return partial(epoch_images, self.recipe)

    def advance(self, state: State, images: Iterator[Epoch], last: int) -> Row:
        """Train one epoch."""
        started, epoch = time.perf_counter(), self.done(state)
        pixels, labels = (torch.from_numpy(part).to(self.device) for part in next(images))
        # Seeded per epoch, so that stochastic layers do not need their generators in the checkpoint.
        torch.manual_seed(stream_seed(self.recipe.seed, epoch, 2))
        state.model.train()
        batch = self.recipe.batch
        steps = math.ceil(len(labels) / batch)
        # Added up where the model is: reading a number in every step would make a GPU wait for the CPU.
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        console = Console()
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            for step in bar.track(range(steps), description=f"epoch {epoch + 1}"):
                part = slice(step * batch, (step + 1) * batch)
                totals += self._step(state, normalised(pixels[part]), labels[part], epoch + step / steps)
        loss, hits = totals.tolist()
        seconds = time.perf_counter() - started
        return {
            "epoch": epoch + 1,
            "loss": loss / len(labels),
            "accuracy": 100.0 * hits / len(labels),
            "seconds": seconds,
            "images_per_second": len(labels) / seconds,
        }

    def _step(self, state: State, images: Tensor, labels: Tensor, epoch: float) -> Tensor:
        """Update the weights; return the summed loss and the number of hits, shape (2,), float64."""
        recipe = self.recipe
        with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.bfloat16):
            logits = state.model(images)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.smoothing)
        warmup = min(recipe.warmup, recipe.epochs / 4)
        rate = learning_rate(recipe.rate, epoch, recipe.epochs, warmup=warmup, first=0.02)
        update(state.model, state.optimiser, loss, rate=rate, clip=recipe.clip)
        hits = (logits.detach().argmax(1) == labels).sum()
        return torch.stack([loss.detach().double() * len(labels), hits.double()])

    def progress(self, state: State) -> str:
        """Return the last epoch's row, readable."""
        row = state.history[-1]
        return (
            f"{self.name} epoch {self.done(state)}/{self.length}  loss {row['loss']:.4f}  "
            f"train accuracy {row['accuracy']:.2f} %  {row['images_per_second']:.0f} images/s  {row['seconds']:.1f} s  "
            f"remaining {clock((self.length - self.done(state)) * row['seconds'])}"
        )

    def scores(self, model: nn.Module) -> dict[str, float]:
        """Return the accuracy on the evaluation images."""
        return {"top1": evaluate(model, self.evaluation(), device=self.device)}

    def facts_of(self, scores: dict[str, float], model: nn.Module) -> dict[str, Any]:
        """Return the accuracy and, for a model that also comes widened, which channels are."""
        if not any(entry.plain == self.name for entry in CLASSIFIERS.values()):
            return dict(scores)
        images, _ = epoch_images(ClassifierRecipe(images=_RANGE_SAMPLE), 0)
        return scores | {"outlier_plan": outlier.plan(model.eval(), model_input(images, self.device))}


def evaluate(model: nn.Module, split: Split, *, device: torch.device, batch: int = 250) -> float:
    """Return the top-1 accuracy in percent, in float32."""
    model.eval()
    correct = 0
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(split.labels), batch):
            images = model_input(split.images[start : start + batch], device)
            predicted = model(images).argmax(1).cpu().numpy()
            correct += int((predicted == split.labels[start : start + batch]).sum())
    return 100.0 * correct / len(split.labels)


def main(
    model: Annotated[str, typer.Argument(help="One of the trained models.")],
    epochs: Annotated[int, typer.Option(help="Number of epochs.")] = ClassifierRecipe.epochs,
    images: Annotated[int, typer.Option(help="New composites per epoch.")] = ClassifierRecipe.images,
    batch: Annotated[int, typer.Option(help="Images per step.")] = ClassifierRecipe.batch,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = ClassifierRecipe.rate,
    decay: Annotated[float, typer.Option(help="Weight decay.")] = ClassifierRecipe.decay,
    hard: Annotated[int, typer.Option(help="First epochs with smaller, fainter digits.")] = ClassifierRecipe.hard,
    bfloat16: Annotated[bool, typer.Option(help="Run the forward pass under bfloat16 autocast.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights and composites.")] = ClassifierRecipe.seed,
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
    known = sorted({entry.trained_as for entry in CLASSIFIERS.values()})
    if model not in known:
        raise typer.BadParameter(f"unknown model {model!r}; known: {', '.join(known)}")
    place = choose_device(device, threads)
    if place.type == "cpu":
        # torch 2.11's fused attention on the CPU needs twice the time of the plain one for so few tokens.
        set_fused_attn(enable=False)
    else:
        torch.backends.cudnn.benchmark = True

    def evaluation() -> Split:
        return digit_images.read_split(digit_images.DATA.generate(work / "imagenet"), "val")

    recipe = ClassifierRecipe(
        epochs=epochs, images=images, batch=batch, rate=rate, decay=decay, hard=hard, bfloat16=bfloat16, seed=seed
    )
    train_and_publish(
        lambda chosen: ClassifierTraining(model, chosen, place, evaluation),
        recipe,
        model,
        work=work,
        out=out,
        minutes=minutes,
        workers=workers,
        export=export,
    )


if __name__ == "__main__":
    typer.run(main)
