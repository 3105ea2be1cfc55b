"""A training that may be killed at any moment: what decides it, its checkpoints, and what it publishes."""

from __future__ import annotations

import hashlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor

from vitptq.tasks.mini.training.ahead import ahead
from vitptq.tasks.mini.training.files import (
    checkpoint_file,
    read_checkpoint,
    refuse_other_recipe,
    replace_file,
    write_checkpoint,
    write_facts,
    write_log,
)
from vitptq.tasks.mini.training.steps import parameter_groups, stream_seed

Row = dict[str, float]


@dataclass(slots=True)
class State:
    """Everything that a resumed run needs; a row of the history starts with how far the run was."""

    model: Any  # mmdet's and mmseg's have methods that nn.Module does not promise
    optimiser: torch.optim.Optimizer
    history: list[Row] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)


@dataclass(frozen=True)  # no slots: the command lines read their defaults from the classes
class Recipe:
    """What decides the weights; stored beside them."""

    batch: int = 128
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 0
    clip: float = 1.0
    bfloat16: bool = False
    seed: int = 0


R = TypeVar("R", bound=Recipe)
Made = TypeVar("Made")


class Training(ABC, Generic[R, Made]):
    """One model's training. What it does depends on the recipe and the weights before it alone.

    So on a CPU a killed run that is started again ends with the weights of an undisturbed one.
    """

    unit: ClassVar[str]
    """What is counted: epochs or steps; the first column of the log."""
    checkpoint_seconds: ClassVar[float]

    def __init__(self, name: str, recipe: R, device: torch.device) -> None:
        """Build nothing yet."""
        self.name = name
        self.recipe = recipe
        self.device = device

    @property
    @abstractmethod
    def length(self) -> int:
        """Return the number of units of the whole training."""

    @abstractmethod
    def initial_model(self) -> Any:
        """Return the model as the training begins with it, on the device; the generator is seeded."""

    @abstractmethod
    def image_maker(self) -> Callable[[int], Made]:
        """Return the function that makes the images of a unit; worker processes may call it."""

    @abstractmethod
    def advance(self, state: State, images: Iterator[Made], last: int) -> Row:
        """Train up to the next row of the log, at most to unit `last`, and return the row; `unit` is its first key."""

    @abstractmethod
    def progress(self, state: State) -> str:
        """Say in one line how it goes, after a new row."""

    @abstractmethod
    def scores(self, model: Any) -> dict[str, float]:
        """Return the scores of the stored weights in percent, on the evaluation images."""

    @abstractmethod
    def facts_of(self, scores: dict[str, float], model: Any) -> dict[str, Any]:
        """Return what the facts tell of the scores and of the trained model."""

    def stored(self, model: Any) -> dict[str, Tensor]:
        """Return the tensors as they are stored; the model has their values afterwards."""
        return {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}

    def origin(self) -> dict[str, Any]:
        """Return facts about what the training began with."""
        return {}

    def done(self, state: State) -> int:
        """Return the number of units that are done."""
        return int(state.history[-1][self.unit]) if state.history else 0

    def fresh(self) -> State:
        """Return the state at the start."""
        torch.manual_seed(stream_seed(self.recipe.seed, 0, 1))
        model = self.initial_model()
        groups = parameter_groups(model, self.recipe.decay)
        return State(model, torch.optim.AdamW(groups, lr=self.recipe.rate, fused=self.device.type == "cuda"))

    def restored(self, work: Path) -> State:
        """Return the state of the checkpoint in `work`, else the one at the start."""
        state = self.fresh()
        path = checkpoint_file(self.name, work)
        if path.exists():
            saved = read_checkpoint(path)
            refuse_other_recipe(path, saved["recipe"], asdict(self.recipe))
            state.model.load_state_dict(saved["model"])
            state.optimiser.load_state_dict(saved["optimiser"])
            state.history.extend(saved["history"])
            state.devices.extend(saved["devices"])
        return state

    def save(self, state: State, work: Path) -> None:
        """Write a checkpoint; a kill leaves the one before."""
        content = {
            "recipe": asdict(self.recipe),
            "model": state.model.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "history": state.history,
            "devices": state.devices,
        }
        write_checkpoint(checkpoint_file(self.name, work), content)

    def run(
        self,
        work: Path,
        *,
        until: int | None = None,
        minutes: float = math.inf,
        workers: int = 0,
    ) -> State:
        """Return the trained state, continuing from the checkpoint in `work` if there is one.

        Stops after unit `until`, or with the row of the log in which `minutes` have passed. `workers` processes make
        the images.
        """
        started = saved = time.perf_counter()
        state = self.restored(work)
        if (place := device_name(self.device)) not in state.devices:
            state.devices.append(place)
        last = min(self.length, until or self.length)
        with closing(ahead(self.image_maker(), range(self.done(state), last), workers)) as images:
            while self.done(state) < last and time.perf_counter() - started < 60 * minutes:
                state.history.append(self.advance(state, images, last))
                print(self.progress(state), flush=True)
                if time.perf_counter() - saved >= self.checkpoint_seconds:
                    self.save(state, work)
                    saved = time.perf_counter()
        self.save(state, work)
        return state

    def publish(self, state: State, out: Path) -> dict[str, float]:
        """Write weights, log and facts to `out`, and return the scores."""
        tensors = self.stored(state.model)
        facts: dict[str, Any] = {
            "model": self.name,
            f"{self.unit}s_done": self.done(state),
            "recipe": asdict(self.recipe),
            "train_seconds": round(sum(row["seconds"] for row in state.history)),
            "device": ", ".join(state.devices),
            **self.origin(),
        }
        content = save(tensors, metadata={key: json.dumps(value) for key, value in facts.items()})
        facts["sha256"] = hashlib.sha256(content).hexdigest()
        scores = {name: round(value, 4) for name, value in self.scores(state.model).items()}
        facts |= self.facts_of(scores, state.model)
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / f"{self.name}.safetensors", content)
        write_facts(out / f"{self.name}.json", facts)
        write_log(out / f"{self.name}.log.csv", state.history)
        return scores


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"
