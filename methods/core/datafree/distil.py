"""Train a quantised model under its float model on made images: predictions and attention outputs (MaskAQ, MimiQ).

The student's activations have learned step sizes (LSQ, Esser et al., arXiv 1902.08153), its weights' grids follow the
weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torchvision import transforms

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.contracts.reporting import report
from vitptq.methods.core.datafree.for_two_models import logits_of, prefix_tokens, products_of
from vitptq.methods.core.datafree.images import black_and_white
from vitptq.methods.core.model.operands import Operand, watching
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.ranges.observers import observe_weights
from vitptq.methods.core.reconstruct.trainable_activation import TrainableActivation

C2 = 0.03**2
"""SSIM's constant of the structure term, the only one that is used here."""
FLOOR = 1e-6
STRESSED, STRESS = 0.1, 2.0
"""Share of the tokens that count more, those of largest mean output, and how much more."""
LEAST_RATE = 0.01
"""Of the learning rate, where the cosine ends."""
STEP_SIZES = 0.01
"""Factor of the step sizes' gradients, beside LSQ's 1 / sqrt(values x largest code)."""


@dataclass(frozen=True)
class Distillation:
    """How the student is trained; the defaults are those of the released code."""

    batch: int = 16
    epochs: int = 100
    rate: float = 1e-3
    momentum: float = 0.9
    temperature: float = 5.0
    attention: float = 10.0
    """Weight of the distance between attention outputs."""


class Student:
    """A quantised model in its training form, with its optimiser over all epochs; `close` ends it."""

    def __init__(self, net: PreparedModel, teacher: PreparedModel, images: Tensor, settings: Distillation) -> None:
        """Take `net` with its quantizers, switched on; `images` are a batch, for the number of values per slot."""
        self.net, self.teacher, self.settings = net, teacher, settings
        self.factors = _gradient_factors(net, images)
        unused = torch.Generator(images.device)  # nothing is dropped
        self.forms = {
            slot: TrainableActivation(slot.quantizer, 1.0, unused, learn=True)
            for slot in self.factors
            if slot.quantizer is not None
        }
        for slot, form in self.forms.items():
            slot.quantizer = form
        self.parameters = list(net.model.parameters())
        learned = [scale for form in self.forms.values() for scale in form.learned]
        for parameter in self.parameters:
            parameter.requires_grad_()
        self.optimiser = torch.optim.SGD(
            [*self.parameters, *learned], lr=settings.rate, momentum=settings.momentum, nesterov=True
        )
        self.cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, settings.epochs, LEAST_RATE * settings.rate
        )

    @torch.enable_grad()
    def epoch(self, images: Tensor, spec: InputSpec, generator: torch.Generator) -> float:
        """Train once on all images, (images, 3, H, W), in random views, and return the mean loss."""
        losses = []
        for rows in torch.randperm(len(images), generator=generator).split(self.settings.batch):
            loss = self._step(random_view(images[rows.to(images.device)], spec, generator))
            losses.append(loss)
            report("student", len(losses), -(-len(images) // self.settings.batch))
        self.cosine.step()
        return torch.stack(losses).mean().item()

    def _step(self, view: Tensor) -> Tensor:
        prefix, temperature = prefix_tokens(self.teacher), self.settings.temperature
        observe_weights(self.net, symmetric=True)
        for slot in self.net.weights.values():
            slot.on = True
        with torch.no_grad(), products_of(self.teacher, "softmax") as expected:
            wanted = logits_of(self.teacher, view)
        with products_of(self.net, "softmax") as found:
            logits = logits_of(self.net, view)
        loss = soft_divergence(logits, wanted, temperature)
        loss = loss + self.settings.attention * attention_distance(expected, found, prefix)
        self.optimiser.zero_grad()
        loss.backward()
        for slot, form in self.forms.items():
            for scale in form.learned:
                if scale.grad is not None:
                    scale.grad.mul_(self.factors[slot])
        self.optimiser.step()
        for form in self.forms.values():
            form.guard()
        return loss.detach()

    def close(self) -> None:
        """Put the slots back, with the step sizes and the weights' grids that were learned."""
        for slot, form in self.forms.items():
            slot.quantizer = form.inner
            form.release()
        for parameter in self.parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        observe_weights(self.net, symmetric=True)
        self.net.switch(True)


@contextmanager
def as_student(net: PreparedModel, teacher: PreparedModel, images: Tensor, settings: Distillation) -> Iterator[Student]:
    """Hold a quantised model in its training form inside."""
    student = Student(net, teacher, images, settings)
    try:
        yield student
    finally:
        student.close()


def soft_divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return KL(softmax(wanted / T), softmax(logits / T)) T^2, a mean over images."""
    soft = (wanted / temperature).softmax(-1)
    found = (logits / temperature).log_softmax(-1)
    return nn.functional.kl_div(found, soft, reduction="batchmean") * temperature**2


def attention_distance(expected: Sequence[Tensor], found: Sequence[Tensor], prefix: int) -> Tensor:
    """Return 1 less the mean structural similarity of two models' attention outputs, (images, heads, tokens, channels).

    Of each channel over the patches, where those with the largest outputs in the first model count twice.
    """
    terms = [1 - _similarity(e[:, :, prefix:], f[:, :, prefix:]).mean() for e, f in zip(expected, found, strict=True)]
    return torch.stack(terms).mean()


def _similarity(expected: Tensor, found: Tensor) -> Tensor:
    """Return the similarity of each head's channels, (images, heads, channels)."""
    weights = token_weights(expected)[:, None, :, None] + FLOOR  # (images, 1, tokens, 1)
    weights = weights / weights.sum(2, keepdim=True)

    def mean(x: Tensor) -> Tensor:
        return (x * weights).sum(2)

    means = mean(expected), mean(found)
    variances = mean(expected.square()) - means[0].square() + mean(found.square()) - means[1].square()
    covariance = mean(expected * found) - means[0] * means[1]
    return (2 * covariance + C2) / (variances + C2 + FLOOR)


@torch.no_grad()
def token_weights(outputs: Tensor) -> Tensor:
    """Return the weight of each token, (images, tokens): more for those of largest mean absolute output."""
    size = outputs.abs().mean(dim=(1, 3))
    count = max(1, round(size.shape[1] * STRESSED))
    return torch.ones_like(size).scatter_(1, size.topk(count, dim=1).indices, STRESS)


def random_view(images: Tensor, spec: InputSpec, generator: torch.Generator) -> Tensor:
    """Return a batch cropped, mirrored, in other colours and blurred, all images alike; drawn from `generator`."""
    black, white = black_and_white(spec, images.device)
    side = spec.shape[1]
    kernel = max(3, int(0.1 * side) // 2 * 2 + 1)
    view = transforms.Compose([
        transforms.RandomResizedCrop(spec.shape[1:], antialias=True),
        transforms.RandomHorizontalFlip(),
        transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
        transforms.RandomGrayscale(p=0.2),
        transforms.RandomApply([transforms.GaussianBlur(kernel)], p=0.5),
    ])  # fmt: skip
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torchvision draws on the CPU, from torch's own generator
        torch.default_generator.manual_seed(seed)
        seen: Tensor = view(((images - black) / (white - black)).clamp(0, 1))
    return seen * (white - black) + black


@torch.no_grad()
def _gradient_factors(net: PreparedModel, images: Tensor) -> dict[Operand, float]:
    """Return the factor of the gradient of each activation's step size."""
    found: dict[Operand, float] = {}

    def watch(slot: Operand, x: Tensor) -> None:
        found[slot] = STEP_SIZES / sqrt(x.numel() * (2 ** (slot.bits - 1) - 1))

    with watching(net.activations, watch):
        logits_of(net, images)
    return found
