"""The error of a unit in a quadratic form of low rank plus a diagonal, from first-order gradients (FIMA-Q).

Shihe Wang et al., arXiv 2506.11543. With e = |O_q - O_float| per image, (B, N), and maps over the N values of one
image's output that grow by one row at each renewal,

    g_r = mean over images of |dKL/dO|,   d_r = mean over images of e,   G = (g_1 ... g_r),  D = (d_1 ... d_r)
    low rank: mean over the batch of  a (D D^T)^-1 a^T  with  a = e G^T;      diagonal: mean of  e^2 mean_r(G).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.reporting import note_details
from vitptq.methods.core.reconstruct.float_predictions import Predictions
from vitptq.methods.core.reconstruct.float_tail import FloatTail, Forward
from vitptq.methods.core.reconstruct.losses import RenewedLoss, StepTensors
from vitptq.methods.core.reconstruct.mini_batches import mini_batches
from vitptq.methods.core.reconstruct.unit import Unit
from vitptq.methods.core.sensitivity.fisher import add_images, are_logits, divergence, mean_of_images, outputs

MAPPED = 32
"""Images of one pass that takes the maps."""
CONDITION_LIMIT = 1e6
"""Of D D^T; beyond, the newest row is left out of the low rank."""

Maps = tuple[Tensor, Tensor]
"""(g, d): of one image's output, or per channel where images differ in size."""


def low_rank_fisher(
    unit: Unit,
    forward: Forward,
    expected: Predictions,
    *,
    iterations: int,
    temperature: float = 20.0,
    renewals: int = 5,
) -> RenewedLoss:
    """Return the loss of a unit, renewed every `iterations` // `renewals` steps; terms "diagonal" and "low rank".

    `forward` says what a model predicts, `expected` looks up what the float model does. Judged by the divergence of the
    predictions behind the unit.
    """
    float_tail = unit.float_tail(forward)
    terms = LowRankFisher(unit, float_tail, expected, temperature=temperature)
    steps = tuple(range(1, iterations + 1, max(1, iterations // renewals)))[:renewals]

    def judge(seen: StepTensors) -> Tensor:
        return divergence(outputs(float_tail(seen.outputs, seen.device_indices)), expected(seen.device_indices))

    return RenewedLoss(terms, terms.renew, steps, judge)


class LowRankFisher:
    """The two terms for one unit, and their renewal."""

    def __init__(self, unit: Unit, float_tail: FloatTail, expected: Predictions, *, temperature: float) -> None:
        self.unit, self.float_tail, self.expected, self.temperature = unit, float_tail, expected, temperature
        self.channels = 1 if isinstance(unit.module, nn.Conv2d) else -1
        self.gradients: list[Tensor] = []
        self.errors: list[Tensor] = []
        self.dropped = 0
        """Rows that the low rank left out, for their condition."""
        self._weights: Tensor | None = None  # G over its largest value, (r, N)
        self._inverse: Tensor | None = None  # (r, r)

    def renew(self, number: int) -> None:
        """Add the maps of the unit as it is now; number 0 begins anew."""
        if number == 0:
            self.gradients, self.errors, self.dropped = [], [], 0
        gradient, error = self._maps()
        self.gradients.append(gradient)
        self.errors.append(error)
        stacked = torch.stack(self.gradients)
        self._weights = stacked / stacked.max().clamp_min(torch.finfo(stacked.dtype).tiny)
        kept, self._inverse = inverse_of_errors(torch.stack(self.errors).flatten(1))
        self.dropped = len(self.errors) - kept
        if self.dropped:
            note_details(f"{self.unit.name}, rows left out of the low rank", self.dropped)

    def __call__(self, seen: StepTensors) -> dict[str, Tensor]:
        """Return the terms of one mini-batch."""
        assert self._weights is not None, "a loss that was never renewed"
        error = (seen.output - seen.target).abs()
        weights = self._weights
        per_value = weights.mean(0)  # in the shape of one image's output, or (D,)
        by_channel = per_value.ndim == 1
        if by_channel and self.channels == 1:
            per_value = per_value.reshape(-1, *[1] * (error.ndim - 2))
        terms = {"diagonal": (error.square() * per_value).mean()}
        if self._inverse is not None:
            rows = len(self._inverse)
            e = self._means(error) if by_channel else error.flatten(1)
            a = e @ weights[:rows].flatten(1).T  # (B, r)
            terms["low rank"] = ((a @ self._inverse) * a).sum(1).mean()
        return terms

    def _means(self, error: Tensor) -> Tensor:
        """Return the mean over positions, (B, D)."""
        return error.movedim(self.channels, 1).flatten(2).mean(2)

    def _maps(self) -> Maps:
        """Return g and d over all calibration images: the unit as it is trained, all else in float."""
        gradients: list[Tensor] = []
        errors: list[Tensor] = []
        counts: tuple[list[int], list[int]] = ([], [])
        plan, device = self.unit.plan, self.unit.calibration.device
        every = [(group, rows) for group, size in enumerate(plan.sizes) for rows in torch.arange(size).split(MAPPED)]
        for batch in mini_batches(plan, every, device):
            seen = self.unit.step_tensors(batch, lambda quantised, plain: plain, "float")
            add_images(gradients, counts[0], self._gradient(seen).abs().sum(0), len(batch))
            add_images(errors, counts[1], (seen.output - seen.target).abs().sum(0), len(batch))
        name = self.unit.name
        return (
            mean_of_images(gradients, counts[0], self.channels, name),
            mean_of_images(errors, counts[1], self.channels, name),
        )

    def _gradient(self, seen: StepTensors) -> Tensor:
        """Return dKL/dO of each image at what the unit puts out now."""
        first = seen.output.detach().requires_grad_()
        with torch.enable_grad():
            predicted = outputs(self.float_tail([first, *seen.outputs[1:]], seen.device_indices))
            expected = self.expected(seen.device_indices)
            if are_logits(expected):
                predicted, expected = ((x[0] / self.temperature,) for x in (predicted, expected))
            loss = divergence(predicted, expected) * len(seen.indices)
        (gradient,) = torch.autograd.grad(loss, first)
        return gradient


def inverse_of_errors(errors: Tensor) -> tuple[int, Tensor | None]:
    """Return how many rows of D, (r, N), are kept, and (D D^T)^-1 of those; none where nothing has an error."""
    products = errors.double() @ errors.double().T
    if not products[0, 0] > 0:
        return 0, None
    kept = len(products)
    while kept > 1 and torch.linalg.cond(products[:kept, :kept]) > CONDITION_LIMIT:
        kept -= 1
    return kept, torch.linalg.inv(products[:kept, :kept]).to(errors.dtype)
