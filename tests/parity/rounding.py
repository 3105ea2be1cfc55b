"""What the repositories that train the rounding share: AdaRound, learned step sizes and their schedules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tests.parity.figures import assert_close
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.reconstruct.trainable_activation import TrainableActivation
from vitptq.methods.core.reconstruct.trainable_weight import AdaRoundWeight, beta_at, h
from vitptq.methods.core.reconstruct.trainer import cosine_rate


def assert_adaround(figures: Mapping[str, Tensor], bits: int) -> None:
    """Compare start, soft values, gradient, targets and hard values of the learned rounding."""
    weight = figures["in_w"]
    scale, zero = figures[f"adaround_{bits}_scale"], figures[f"adaround_{bits}_zero"]
    quantizer = Uniform(bits, scale, zero, axis=0, granularity="channel")
    rounding = AdaRoundWeight(quantizer, weight)
    assert_close(rounding.alpha, figures[f"adaround_{bits}_alpha"])
    rounding.alpha = nn.Parameter(figures["in_alpha"].clone())
    soft = rounding.quantise(weight)
    (soft * figures["in_w_upstream"]).sum().backward()
    assert rounding.alpha.grad is not None
    assert_close(soft, figures[f"adaround_{bits}_soft"])
    assert_close(rounding.alpha.grad, figures[f"adaround_{bits}_grad"])
    assert_close(h(rounding.alpha), figures.get(f"adaround_{bits}_targets", h(rounding.alpha)))
    parameter = nn.Parameter(weight.clone())
    rounding.harden(parameter)
    assert_close(parameter, figures.get(f"adaround_{bits}_value", parameter))
    assert_close(quantizer(parameter), figures[f"adaround_{bits}_hard"])


def learned_step(figures: Mapping[str, Tensor], bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, gradient by input and gradient by scale of a learned step size, on the figures' input."""
    uniform = Uniform(bits, torch.tensor([3.0 / 2**bits]), torch.tensor([2.0 ** (bits - 1) - 1]))
    activation = TrainableActivation(uniform, 1.0, torch.Generator(), learn=True)
    x = figures["in_x"].clone().requires_grad_()
    out = activation.quantise(x)
    (out * figures["in_upstream"]).sum().backward()
    assert x.grad is not None and uniform.scale.grad is not None
    return out, x.grad, uniform.scale.grad


def assert_temperature(figures: Mapping[str, Tensor]) -> None:
    """Compare the temperature of the rounding term from the end of the warm-up, 20 % of 20,000 steps, on."""
    steps = figures["schedule_steps"].tolist()
    regularised = [place for place, step in enumerate(steps) if step >= 4000]
    ours = torch.tensor([beta_at(steps[place], 20_000) for place in regularised], dtype=torch.float64)
    assert_close(ours, figures["schedule_temperature"][regularised])


def assert_scale_rate(figures: Mapping[str, Tensor]) -> None:
    """Compare the learning rate of the scales over 20,000 steps."""
    ours = [cosine_rate(4e-5, step, 20_000) for step in figures["schedule_steps"].tolist()]
    assert_close(torch.tensor(ours, dtype=torch.float64), figures["schedule_scale_rate"])
