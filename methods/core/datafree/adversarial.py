"""Adversarial generation of PSAQ-ViT V2 (arXiv 2209.05687): images widen the gap between the float model (teacher)
and the quantised one (student), then the student is trained to close it.

The paper's code is not public: what follows is a recipe consistent with what it says, and the method lists the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import DataFree
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.reporting import report
from vitptq.methods.core.datafree.generate import (
    ExtraLoss,
    GeneratedImages,
    Outputs,
    Recipe,
    generate,
    outputs_of,
    schedule,
)
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.quantizers.autograd import applied
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights

CAP = 1.0
"""A larger discrepancy earns the images nothing: without a cap it drives them away from anything like a picture."""


@dataclass(frozen=True)
class AdversarialSettings:
    """How many cycles there are, how images are generated and how the student is trained."""

    first: Recipe
    """Of the first cycle, which knows no student."""
    later: Recipe
    cycles: int = 10
    learn_steps: int = 100
    learn_rate: float = 1e-5
    weight: float = 1.0
    """Of the discrepancy, in the generation of every cycle but the first."""


@dataclass(frozen=True)
class AdversarialResult:
    """All generated batches, and by cycle the discrepancy before and after the student was trained."""

    pool: list[Tensor]
    history: list[tuple[float, float]]


def train_adversarially(
    teacher: PreparedModel,
    student: PreparedModel,
    given: DataFree,
    settings: AdversarialSettings,
    generator: torch.Generator,
) -> AdversarialResult:
    """Run every cycle; `student` ends with trained weights, its quantizers set from the whole pool and switched on.

    `generator` (CPU) draws everything that is random.
    """
    pool: list[Tensor] = []
    history = []
    for cycle in range(settings.cycles):
        recipe, name = (settings.later if cycle else settings.first), f"images, cycle {cycle + 1} of {settings.cycles}"
        against = _discrepancy_term(student, settings.weight) if cycle and settings.weight else None
        pool.append(generate(teacher, given, recipe, generator, extra=against, step=name))
        set_ranges(student, given, pool)
        before = mean_discrepancy(teacher, student, pool)
        train_student(teacher, student, pool, settings, generator)
        history.append((before, mean_discrepancy(teacher, student, pool)))
    set_ranges(student, given, pool)
    return AdversarialResult(pool, history)


def set_ranges(student: PreparedModel, given: DataFree, pool: list[Tensor]) -> None:
    """Set every quantizer anew, from the weights and one float pass over the pool, and switch them on."""
    observe_weights(student, symmetric=True)
    observe_activations(student, GeneratedImages(student, given, pool), RunningMinMax)
    student.switch(True)


@torch.enable_grad()
def train_student(
    teacher: PreparedModel,
    student: PreparedModel,
    pool: list[Tensor],
    settings: AdversarialSettings,
    generator: torch.Generator,
) -> None:
    """Train weights and biases of the quantised layers to put out what the teacher does, on random batches of the pool.

    Ranges of activations stay; those of weights follow the weights. The gradient passes through the rounding of weights
    unchanged, and through that of activations inside their range.
    """
    with _trainable(student) as parameters:
        optimiser = torch.optim.Adam(parameters, lr=settings.learn_rate)
        for done in range(settings.learn_steps):
            optimiser.param_groups[0]["lr"] = settings.learn_rate * schedule(done, settings.learn_steps, rise=0)
            images = pool[int(torch.randint(len(pool), (), generator=generator))]
            with torch.no_grad():
                expected = outputs_of(teacher, images)
            _follow_weights(student)
            loss = discrepancy(expected, outputs_of(student, images))
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
            ):
                parameter.grad = gradient
            optimiser.step()
            report("student", done + 1, settings.learn_steps)
    observe_weights(student, symmetric=True)
    student.switch(True)


def discrepancy(expected: Outputs, found: Outputs) -> Tensor:
    """Return the mean absolute difference of two models' outputs, each in units of the expected standard deviation."""
    pairs = zip(expected, found, strict=True)
    return torch.stack([(e - f).abs().mean() / e.detach().std().clamp_min(1e-8) for e, f in pairs]).mean()


@torch.no_grad()
def mean_discrepancy(teacher: PreparedModel, student: PreparedModel, pool: list[Tensor]) -> float:
    """Return the discrepancy over all batches."""
    found = [discrepancy(outputs_of(teacher, images), outputs_of(student, images)) for images in pool]
    return torch.stack(found).mean().item()


def _discrepancy_term(student: PreparedModel, weight: float) -> ExtraLoss:
    def against(images: Tensor, expected: Outputs) -> Tensor:
        return -weight * discrepancy(expected, outputs_of(student, images)).clamp_max(CAP)

    return against


@contextmanager
def _trainable(student: PreparedModel) -> Iterator[list[nn.Parameter]]:
    """Let weights and biases of the quantised layers receive gradients inside."""
    layers = [student.model.get_submodule(name.rpartition(".")[0]) for name in student.weights]
    parameters = list(dict.fromkeys(p for layer in layers for p in layer.parameters(recurse=False)))
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        yield parameters
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None


def _follow_weights(student: PreparedModel) -> None:
    """Set the weights' quantizers from the weights as they are, with a gradient that ignores them."""
    observe_weights(student, symmetric=True)
    for operand in student.weights.values():
        if operand.quantizer is not None:
            operand.quantizer = _StraightThrough(operand.quantizer)


class _StraightThrough(Quantizer):
    """A quantizer whose gradient is the identity, also where it clips: while the student learns."""

    def __init__(self, inner: Quantizer) -> None:
        super().__init__(inner.bits)
        self.inner = inner

    @property
    def granularity(self) -> str:
        return self.inner.granularity

    def quantise(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            values = self.inner.quantise(x)
        return applied(_Identity, x, values)

    def grid(self) -> Tensor:
        return self.inner.grid()

    def groups(self, x: Tensor) -> Tensor:
        return self.inner.groups(x)


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, values: Tensor) -> Tensor:
        return values

    @staticmethod
    def backward(ctx: object, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
