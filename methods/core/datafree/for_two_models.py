"""Optimise noise into images on which a float and a quantised model attend alike (MaskAQ, arXiv 2606.04373)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitptq.bench.bits import Role
from vitptq.bench.contracts.method import DataFree, InputSpec
from vitptq.bench.contracts.reporting import report
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.datafree.attention_terms import entropy_of_patches, heads_apart, masked_difference
from vitptq.methods.core.datafree.generate import outputs_of
from vitptq.methods.core.datafree.images import SIDE, black_and_white, from_bytes, to_bytes
from vitptq.methods.core.model.operands import MatMul
from vitptq.methods.core.model.prepare import PreparedModel

SHIFTS = (8, 16)
"""Largest shift in pixels of 224, in the first and in the second half of the steps."""
LEAST_RATE = 0.01
"""Of the step size, where the cosine ends."""
BRIGHTNESS = 0.5
"""Standard deviation of an image's shift in brightness, at the start."""


@dataclass(frozen=True)
class MaskedRecipe:
    """How images are made, and the weights of the terms; the defaults are those of the released code."""

    batch: int = 16
    steps: int = 2000
    rate: float = 0.1
    heads: float = 1.0
    classes: float = 1.0
    variation: float = 2.5e-5
    difference: float = 0.1
    entropy: float = 1.0
    shares: tuple[float, float] = (0.5, 0.1)
    """Of the keys in the mask, at the first and at the last step."""


@torch.enable_grad()
def images_for_two(
    teacher: PreparedModel, student: PreparedModel, given: DataFree, recipe: MaskedRecipe, generator: torch.Generator
) -> Tensor:
    """Return `recipe.batch` images, (B, 3, H, W), normalised and rounded to 8 bits per channel.

    `student` is switched as it shall be seen; `generator` (CPU) draws everything that is random.
    """
    spec, device = given.input, given.device
    prefix = prefix_tokens(teacher)
    images = torch.randn(recipe.batch, *spec.shape, generator=generator).to(device).requires_grad_()
    optimiser = torch.optim.AdamW([images], lr=recipe.rate, weight_decay=1e-6)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps, LEAST_RATE * recipe.rate)
    classes: Tensor | None = None
    black, white = black_and_white(spec, device)
    for step in range(recipe.steps):
        done = step / recipe.steps
        view = seen(images, spec, done, generator)
        with products_of(teacher, "query") as expected, products_of(student, "query") as found:
            logits = logits_of(teacher, view)
            logits_of(student, view)
        if classes is None:
            classes = torch.randint(logits.shape[1], (len(logits),), generator=generator).to(device)
        share = recipe.shares[0] * (1 - done) + recipe.shares[1] * done
        loss = (
            recipe.heads * heads_apart(expected, prefix)
            + recipe.classes * nn.functional.cross_entropy(logits, classes)
            + recipe.variation * variation(images)
            + recipe.difference * masked_difference(expected, found, prefix, share, generator)
            - recipe.entropy * entropy_of_patches(expected, prefix, generator)
        )
        (images.grad,) = torch.autograd.grad(loss, [images])
        optimiser.step()
        cosine.step()
        with torch.no_grad():
            images.clamp_(black, white)
        report("images", step + 1, recipe.steps)
    return from_bytes(to_bytes(images.detach(), spec), spec)


def logits_of(net: PreparedModel, images: Tensor) -> Tensor:
    """Return a classifier's logits, (images, classes)."""
    outputs = outputs_of(net, images)
    if len(outputs) != 1 or outputs[0].ndim != 2:
        raise Unsupported("images of classes need a classifier's logits; this model puts out feature maps")
    return outputs[0]


def seen(images: Tensor, spec: InputSpec, done: float, generator: torch.Generator) -> Tensor:
    """Return the images as a step sees them: rolled, brighter or darker (ever less), in other colours."""
    limit = round(SHIFTS[done >= 0.5] * spec.shape[1] / SIDE)
    offsets = torch.randint(-limit, limit + 1, (2,), generator=generator).tolist()
    per_channel = (len(images), images.shape[1], 1, 1)
    shift = torch.randn(per_channel, generator=generator) * BRIGHTNESS * (1 - done)
    mean, spread = (2 * torch.rand(per_channel, generator=generator) - 1 for _ in range(2))
    rolled = images.roll(offsets, (2, 3))
    seen_as: Tensor = (rolled + shift.to(images.device) - mean.to(images.device)) / spread.exp().to(images.device)
    return seen_as


def variation(images: Tensor) -> Tensor:
    """Return the sum of the norms of the differences between neighbours, those on diagonals over the root of 2."""
    beside = images[..., :, :-1] - images[..., :, 1:]
    below = images[..., :-1, :] - images[..., 1:, :]
    diagonal = images[..., 1:, :-1] - images[..., :-1, 1:]
    other = images[..., :-1, :-1] - images[..., 1:, 1:]
    straight, oblique = (torch.stack([x.norm(), y.norm()]).sum() for x, y in ((beside, below), (diagonal, other)))
    return straight + oblique / 2**0.5


def prefix_tokens(net: PreparedModel) -> int:
    """Return how many tokens of a model stand in front of its patches: 1 with a class token."""
    return int(getattr(net.model, "num_prefix_tokens", 0))


@contextmanager
def products_of(net: PreparedModel, left: Role) -> Iterator[Sequence[Tensor]]:
    """Collect inside what the attention products put out whose left side has this role."""
    modules = [m for m in net.model.modules() if isinstance(m, MatMul) and m.left_operand.role == left]
    if not modules:
        raise Unsupported("attention is compared product by product, and this model's operand map has no such product")
    found: list[Tensor] = []
    handles = [m.register_forward_hook(lambda _m, _i, out: found.append(out)) for m in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
