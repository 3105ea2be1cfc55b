"""Train one unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT_BITS
from vitptq.bench.errors import BadInput
from vitptq.methods.core.model.operands import Layer, Operand
from vitptq.methods.core.reconstruct.losses import Loss, RenewedLoss, StepTensors, Terms
from vitptq.methods.core.reconstruct.mini_batches import MiniBatch, endless, mini_batches
from vitptq.methods.core.reconstruct.settings import Settings
from vitptq.methods.core.reconstruct.trainable_activation import TrainableActivation, mixed
from vitptq.methods.core.reconstruct.trainable_quantizer import TrainableQuantizer
from vitptq.methods.core.reconstruct.trainable_weight import AdaRoundWeight, FixedWeight, beta_at, regularise
from vitptq.methods.core.reconstruct.unit import Unit

FIRST_FLOOR = 1e-12
"""Smallest first value that a term is divided by."""
EVALUATION_BATCH = 64

Tell = Callable[[int, Tensor], None]
"""Called at each step with (step from 1, loss); reading the loss makes a GPU wait."""


class Trainer:
    """Holds a unit in its training form; `close` puts the slots back, whatever happened."""

    def __init__(self, unit: Unit, settings: Settings, loss: Loss, parts: int = 1) -> None:
        self.unit, self.settings, self.loss, self.parts = unit, settings, loss, parts
        device = unit.calibration.device
        # its own draws: a unit does not depend on those before it; generators take 63 bits
        seed = (settings.seed * 1_000_003 + unit.number) % 2**63
        order = torch.Generator().manual_seed(seed)
        self.batches = endless(unit.plan, settings.batch, order, device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.mix = partial(mixed, probability=settings.quantised_input_probability, generator=self.generator)
        self.rounded: dict[Operand, AdaRoundWeight] = {}
        self.dropped: dict[Operand, TrainableActivation] = {}
        self.fixed: dict[Operand, FixedWeight] = {}
        self.plain: list[nn.Parameter] = []
        self.first: dict[str, Tensor] = {}
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.autocast == "fp16")  # type: ignore[attr-defined]
        try:
            self._open()
            self.optimiser = self._optimiser()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        for operand in self.unit.operands:
            quantizer = operand.quantizer
            if quantizer is None or not operand.on or operand.bits == FLOAT_BITS:
                continue
            assert not isinstance(quantizer, TrainableQuantizer), f"{operand.name} is in training already"
            if operand.role != "weight":
                self.dropped[operand] = operand.quantizer = TrainableActivation(
                    quantizer,
                    self.settings.quantised_probability,
                    self.generator,
                    learn=self.settings.scales,
                    nonnegative=operand.role == "softmax",
                )
            elif self.settings.weights == "adaround":
                self.rounded[operand] = AdaRoundWeight(quantizer, self.unit.net.weight(operand).detach())
                operand.quantizer = self.rounded[operand]
            elif self.settings.weights == "fixed":
                self.fixed[operand] = FixedWeight(quantizer, self.unit.net.weight(operand).detach())
                operand.quantizer = self.fixed[operand]
        self.plain += list(_parameters(self.unit.module, self.settings))
        for parameter in self.plain:
            parameter.requires_grad_()

    def close(self) -> None:
        """Put every slot back as it was, without hardening."""
        forms: dict[Operand, TrainableQuantizer] = {**self.rounded, **self.dropped, **self.fixed}
        for operand, form in forms.items():
            operand.quantizer = form.inner
        for activation in self.dropped.values():
            activation.release()
        for parameter in self.plain:
            parameter.requires_grad_(False)
            parameter.grad = None

    def harden(self) -> None:
        """Write the learned rounding into the weights."""
        for operand, form in self.rounded.items():
            write = form.harden if self.settings.hard else form.keep
            write(self.unit.net.weight(operand))  # type: ignore[arg-type]

    def _optimiser(self) -> torch.optim.Adam | None:
        s = self.settings
        weights = [form.alpha for form in self.rounded.values()] + self.plain
        scales = [x for form in self.dropped.values() for x in form.learned]
        groups = [
            {"params": weights, "lr": s.weight_rate, "rate": s.weight_rate, "schedule": s.weight_schedule},
            {"params": scales, "lr": s.scale_rate, "rate": s.scale_rate, "schedule": s.scale_schedule},
        ]
        groups = [group for group in groups if group["params"]]
        return torch.optim.Adam(groups, fused=True) if groups else None

    def train(self, tell: Tell | None = None) -> None:
        """Take all steps; the unit is in its training form afterwards."""
        if self.optimiser is None:
            return
        for step in range(1, self.settings.iterations + 1):
            value = self.step(step)
            if tell is not None:
                tell(step, value)

    def step(self, step: int) -> Tensor:
        """Take step number `step` (from 1) and return the loss, without the rounding term."""
        assert self.optimiser is not None
        if isinstance(self.loss, RenewedLoss) and step in self.loss.steps:
            with torch.no_grad():
                self.loss.renew(self.loss.steps.index(step))
            self.first.clear()
        batch = next(self.batches)
        with torch.enable_grad():
            value = self._gradients(batch)
        beta = beta_at(step, self.settings.iterations, *self.settings.beta, self.settings.warm_up)
        if self.rounded and beta is not None:
            weight = self.settings.rounding_weight * (self.scaler.get_scale() if self.scaler.is_enabled() else 1)
            for form in self.rounded.values():
                if form.alpha.grad is not None:
                    regularise(form.alpha, beta, weight)
        for options in self.optimiser.param_groups:
            if options["schedule"] == "cosine":
                options["lr"] = cosine_rate(options["rate"], step - 1, self.settings.iterations)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        for activation in self.dropped.values():
            activation.guard()
        return value

    def _gradients(self, batch: MiniBatch) -> Tensor:
        """Accumulate the gradients of one mini-batch, in `parts` parts where memory is short."""
        total = None
        for part in batch.parts(min(self.parts, len(batch))):
            with self._autocast():
                seen = self.unit.step_tensors(part, self.mix, self.settings.input)
            terms = named(self.loss(seen))
            value = self._total(terms) * (len(part) / len(batch))
            self.scaler.scale(value).backward()
            total = value.detach() if total is None else total + value.detach()
        assert total is not None
        return total

    def _total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms, each divided by its first value if asked for."""
        parts = []
        for name, term in terms.items():
            factor: Tensor | float = self.settings.term_weights.get(name, 1.0)
            if self.settings.normalise is not None:
                if name not in self.first:
                    self.first[name] = term.detach().clamp_min(FIRST_FLOOR)
                factor = factor * self.settings.normalise / self.first[name]
            parts.append(term * factor)
        return torch.stack(parts).sum()

    def _autocast(self) -> AbstractContextManager[object]:
        if self.settings.autocast == "off":
            return nullcontext()
        dtype = torch.bfloat16 if self.settings.autocast == "bf16" else torch.float16
        return torch.autocast(self.unit.calibration.device.type, dtype=dtype)


def _parameters(module: nn.Module, settings: Settings) -> Iterator[nn.Parameter]:
    """Yield the parameters that are trained as they are."""
    for part in module.modules():
        if isinstance(part, Layer):
            own = dict(part.named_parameters(recurse=False))
            if settings.weights == "ste":
                yield own["weight"]
            if settings.biases and "bias" in own:
                yield own["bias"]
        elif isinstance(part, nn.LayerNorm) and settings.norms:
            yield from part.parameters(recurse=False)


def named(terms: Terms) -> Mapping[str, Tensor]:
    """Return a loss as named terms."""
    if isinstance(terms, Tensor):
        return {"loss": terms}
    if not terms:
        raise BadInput("the loss of a reconstruction returned no term")
    return terms


@torch.no_grad()
def errors(unit: Unit, settings: Settings, loss: Loss) -> dict[str, float]:
    """Return each term of the loss over the calibration set, with the unit as it is and no dropping.

    Of a loss that is renewed, the terms of what judges it.
    """
    source = "float" if settings.input == "float" else "quantised"
    judge = loss.judge if isinstance(loss, RenewedLoss) else loss
    at_once = min(EVALUATION_BATCH, settings.batch)
    every = [(group, rows) for group, size in enumerate(unit.plan.sizes) for rows in torch.arange(size).split(at_once)]
    sums: dict[str, Tensor] = {}
    for batch in mini_batches(unit.plan, every, unit.calibration.device):
        seen: StepTensors = unit.step_tensors(batch, _never, source)
        for name, term in named(judge(seen)).items():
            sums[name] = sums.get(name, torch.zeros_like(term)) + term * len(batch)
    return {name: float(value) / unit.plan.samples for name, value in sums.items()}


def _never(quantised: Tensor, plain: Tensor) -> Tensor:
    raise AssertionError("nothing is mixed outside training")


def cosine_rate(rate: float, taken: int, steps: int) -> float:
    """Return the learning rate behind `taken` of `steps` steps: from `rate` along half a cosine to 0."""
    return rate * (1 + math.cos(math.pi * taken / steps)) / 2
