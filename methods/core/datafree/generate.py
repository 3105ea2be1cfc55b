"""Optimise noise into calibration images (PSAQ-ViT's loop, arXiv 2203.02250, algorithm and published code)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration, DataFree, InputSpec
from vitptq.bench.contracts.reporting import report
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.datafree.images import (
    black_and_white,
    from_bytes,
    largest_shift,
    shifted_and_mirrored,
    to_bytes,
    total_variation,
    variation_target,
)
from vitptq.methods.core.datafree.similarity import Entropy
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.model.prepare import PreparedModel

Outputs = tuple[Tensor, ...]
ExtraLoss = Callable[[Tensor, Outputs], Tensor]
"""One more term of the loss, from the moved images and the float model's outputs for them."""

BETAS = (0.5, 0.9)
WARM_UP = 0.2
"""Share of a round in which the step size rises: 100 of 500 steps."""
RATE, WINDOWED_RATE = 0.20, 0.25
"""Step sizes published for ViT and DeiT, and for Swin."""


@dataclass(frozen=True)
class Recipe:
    """How images are generated; the defaults are PSAQ-ViT's."""

    batch: int = 32
    rounds: int = 2
    steps: int = 500
    """Per round."""
    rate: float | None = None
    """Step size; None: 0.20, or 0.25 where attention works in windows."""
    one_hot: float = 1.0
    """Weight of the cross-entropy to a class drawn per image; 0 draws none."""
    variation: float = 0.05
    """Weight of the distance of the total variation from its target."""
    entropy: Entropy = field(default_factory=Entropy)

    def loss(self, products: Sequence[Tensor], view: Tensor, target: float) -> Tensor:
        """Return the loss without classes: of attention's outputs, and of the images, whose variation has a target."""
        entropies = torch.stack([self.entropy(product, self.batch) for product in products])
        return -entropies.sum() + self.variation * (total_variation(view) - target).abs()

    def class_loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Return the loss of the classes that were drawn."""
        return self.one_hot * nn.functional.cross_entropy(logits, classes)


class AttentionOutputs:
    """The outputs of every product of attention with values during one forward pass."""

    def __init__(self, net: PreparedModel) -> None:
        """Find the products; a model without any is Unsupported."""
        products = [m for m in net.model.modules() if isinstance(m, MatMul) and m.left_operand.role == "softmax"]
        if not products:
            raise Unsupported("patch similarity needs attention products, and this model's operand map has none")
        self.products = products
        self.outputs: list[Tensor] = []

    @contextmanager
    def watching(self) -> Iterator[list[Tensor]]:
        """Collect inside; a product that did not run, or ran twice, is an error."""
        self.outputs.clear()
        handles = [m.register_forward_hook(lambda _m, _i, out: self.outputs.append(out)) for m in self.products]
        try:
            yield self.outputs
        finally:
            for handle in handles:
                handle.remove()
        if len(self.outputs) != len(self.products):
            raise Unsupported(
                f"{len(self.outputs)} attention outputs in one pass through {len(self.products)} attention products: "
                "patch similarity needs one each"
            )


class GeneratedImages(Calibration):
    """Generated images as a calibration set."""

    def __init__(self, net: PreparedModel, given: DataFree, batches: list[Tensor]) -> None:
        """Serve `batches`, each (B, 3, H, W), to models of `net`'s family."""
        self.input, self.device, self.seed = given.input, given.device, given.seed
        self._net, self._batches = net, batches

    def batches(self) -> Iterator[Tensor]:
        """Yield each batch."""
        yield from self._batches

    def forward(self, model: nn.Module, batch: Tensor) -> Tensor | Outputs:
        """Return logits, or a detector's or segmenter's feature maps."""
        return self._net.family.features(model, batch)


def outputs_of(net: PreparedModel, images: Tensor) -> Outputs:
    """Return the model's differentiable outputs as a tuple."""
    found = net.family.features(net.model, images)
    return (found,) if isinstance(found, Tensor) else tuple(found)


@torch.enable_grad()
def generate(
    net: PreparedModel,
    given: DataFree,
    recipe: Recipe,
    generator: torch.Generator,
    *,
    extra: ExtraLoss | None = None,
    step: str = "images",
) -> Tensor:
    """Return `recipe.batch` images, (B, 3, H, W), normalised and rounded to 8 bits per channel.

    `net` is the float model (its slots off); `generator` draws on the CPU, so that images start alike on every device.
    Rounding is ours: a stored picture then repeats the calibration exactly.
    """
    spec, device = given.input, given.device
    attention = AttentionOutputs(net)
    images = torch.randn(recipe.batch, *spec.shape, generator=generator).to(device).requires_grad_()
    target = variation_target(recipe.batch, spec, generator)
    rate = _rate(net, attention, images) if recipe.rate is None else recipe.rate
    classes = _classes(net, images, generator) if recipe.one_hot else None
    optimiser = torch.optim.Adam([images], lr=rate, betas=BETAS, eps=1e-8)
    black, white = black_and_white(spec, device)
    for done in range(recipe.rounds * recipe.steps):
        round_, place = divmod(done, recipe.steps)
        optimiser.param_groups[0]["lr"] = rate * schedule(place, recipe.steps)
        view = shifted_and_mirrored(images, largest_shift(round_, spec), generator)
        with attention.watching() as products:
            outputs = outputs_of(net, view)
        loss = recipe.loss(products, view, target)
        if classes is not None:
            loss = loss + recipe.class_loss(outputs[0], classes)
        if extra is not None:
            loss = loss + extra(view, outputs)
        (images.grad,) = torch.autograd.grad(loss, [images])
        optimiser.step()
        with torch.no_grad():
            images.clamp_(black, white)
        report(step, done + 1, recipe.rounds * recipe.steps)
    return from_bytes(to_bytes(images.detach(), spec), spec)


def schedule(place: int, steps: int, rise: float = WARM_UP) -> float:
    """Return the factor of the step size at `place` in a round: a linear rise, then half a cosine down to 0.

    `rise` is the share of the steps in which it rises.

    >>> [round(schedule(place, 10), 2) for place in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    top = round(rise * steps)
    if place < top:
        return (place + 1) / top
    return (1 + math.cos(math.pi * (place - top) / (steps - top))) / 2


@torch.no_grad()
def _rate(net: PreparedModel, attention: AttentionOutputs, images: Tensor) -> float:
    with attention.watching() as products:
        outputs_of(net, images[:1])
    return WINDOWED_RATE if any(len(product) > 1 for product in products) else RATE


@torch.no_grad()
def _classes(net: PreparedModel, images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a class for every image."""
    outputs = outputs_of(net, images[:1])
    if len(outputs) != 1 or outputs[0].ndim != 2:
        raise Unsupported("class guidance needs a classifier's logits; this model puts out feature maps")
    return torch.randint(outputs[0].shape[1], (len(images),), generator=generator).to(images.device)


def noise(kind: str, images: int, spec: InputSpec, device: torch.device, generator: torch.Generator) -> Tensor:
    """Return noise, (B, 3, H, W): "gaussian" is N(0, 1) after normalisation, "uniform" runs from black to white."""
    if kind == "gaussian":
        return torch.randn(images, *spec.shape, generator=generator).to(device)
    black, white = black_and_white(spec, device)
    return torch.rand(images, *spec.shape, generator=generator).to(device) * (white - black) + black
