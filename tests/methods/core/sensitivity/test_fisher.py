"""Divergences of predictions, their gradients, and the diagonal Fisher information."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.methods.core.search.recording import survey
from vitptq.methods.core.sensitivity.fisher import (
    divergence,
    fisher_mc,
    log_likelihood,
    output_gradient_parts,
    output_gradients,
    outputs,
)
from vitptq.methods.ptq4vit import PTQ4ViT
from vitptq.methods.q_hyvit import QHyViT

BITS = BitSpec(4, 4)


class Maps(RandomImages):
    """Random images whose predictions are two tensors, as a detector's."""

    def forward(self, model: nn.Module, batch: Any) -> Any:
        scores = model(batch)
        return scores[:, :4] * 100, scores[:, 4:].unsqueeze(-1) * 0.1


class TwoSizes(RandomImages):
    """Batches of two sizes for a model that takes both."""

    def batches(self) -> Iterator[Tensor]:
        images = next(super().batches())
        yield images
        yield images[:3, :, :, :24]


def net(name: str = "ViT", *, quantised: bool = False) -> PreparedModel:
    found = prepare(two_block_models()[name], BITS)
    if quantised:
        observe_weights(found)
        observe_activations(found, RandomImages(), RunningMinMax)
    return found


def test_divergence_of_logits_by_hand() -> None:
    float_, other = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    p = torch.tensor([1.0, 0.0]).softmax(0)
    assert divergence((other,), (float_,)).item() == pytest.approx(0.5 * (0.5 / p).log().sum().item(), rel=1e-6)


def test_divergence_of_tensors_is_in_units_of_their_variance() -> None:
    float_ = torch.tensor([[1.0, 3.0], [1.0, 3.0]]).unsqueeze(-1)  # variance 1
    other = float_ + torch.tensor([2.0, 0.0])[:, None]  # off by 2 in one of two places of each of two images
    by_hand = 2 * 2**2 / (2 * 2 * 1.0)
    assert divergence((other,), (float_,)).item() == pytest.approx(by_hand)
    assert divergence((other * 50,), (float_ * 50,)).item() == pytest.approx(by_hand, rel=1e-5)


def test_sampled_gaussian_has_the_variance_as_its_information() -> None:
    predicted = (torch.randn(64, 200, 1, dtype=torch.float64) * 3).requires_grad_()
    generator = torch.Generator().manual_seed(0)
    value = log_likelihood((predicted,), (predicted.detach(),), reduction="sum", generator=generator)
    (gradient,) = torch.autograd.grad(value, predicted)
    assert gradient.square().mean().item() == pytest.approx(1 / predicted.detach().var().item(), rel=0.05)


@pytest.mark.parametrize("point", ["quantised", "sampled"])
def test_gradients_exist_for_several_tensors(point: Any) -> None:
    found = net(quantised=True)
    module = found.model.get_submodule("blocks.0")
    (gradient,) = output_gradients(found, Maps(), [module], point)
    assert gradient.shape == (8, 17, 32)
    assert gradient.abs().amax() > 0


def test_sampled_predictions_depend_on_the_seed_alone() -> None:
    found = net()
    first, second = (found.model.get_submodule(f"blocks.{i}") for i in (0, 1))
    (alone,) = output_gradients(found, RandomImages(), [second], "sampled")
    torch.rand(3)  # the global generator is not asked
    assert torch.equal(output_gradients(found, RandomImages(), [first, second], "sampled")[1], alone)
    other = RandomImages()
    other.seed = 1
    assert not torch.equal(output_gradients(found, other, [second], "sampled")[0], alone)


@pytest.mark.parametrize("method", [PTQ4ViT(candidates=3, rounds=1), QHyViT(candidates=2, rounds=1)])
def test_gradient_weighted_searches_work_without_class_scores(method: Any) -> None:
    quantised = method.quantize(two_block_models()["ViT"], Maps(), BITS)
    with torch.no_grad():
        assert quantised(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_predictions_without_numbers_are_refused() -> None:
    with pytest.raises(Unsupported, match="puts out nothing"):
        outputs((torch.zeros(2, dtype=torch.long),))


def exact(found: PreparedModel, units: list[str], temperature: float) -> dict[str, Tensor]:
    """Return the diagonal by going through all classes, image by image."""
    sums = {name: torch.zeros(()) for name in units}
    images = next(RandomImages().batches())
    for image in images:
        kept: dict[str, Tensor] = {}
        handles = []
        for name in units:

            def leave(module: Any, args: Any, out: Tensor, name: str = name, kept: Any = kept) -> Any:
                kept[name] = out if out.requires_grad else out.detach().requires_grad_()
                return kept[name]

            handles.append(found.model.get_submodule(name).register_forward_hook(leave))
        logs = (found.model(image[None]) / temperature).log_softmax(-1)[0]
        for handle in handles:
            handle.remove()
        for c in range(len(logs)):
            gradients = torch.autograd.grad(logs[c], list(kept.values()), retain_graph=True)
            for name, gradient in zip(kept, gradients, strict=True):
                sums[name] = sums[name] + logs[c].exp().detach() * gradient[0].square()
    return {name: value / len(images) for name, value in sums.items()}


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_fisher_mc_is_the_diagonal_of_the_hessian(name: str) -> None:
    found = net(name)
    units = [unit for unit, _ in found.blocks()]
    truth = exact(found, units, 1.0)
    drawn = fisher_mc(
        found, RandomImages(), units, draws=64, temperature=1.0, generator=torch.Generator().manual_seed(1)
    )
    for unit in units:
        assert drawn[unit].shape == truth[unit].shape
        assert (drawn[unit] >= 0).all()
        assert (drawn[unit].mean() / truth[unit].mean()).item() == pytest.approx(1, abs=0.05)
        both = torch.stack([drawn[unit].flatten(), truth[unit].flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.97


def test_last_block_matters_at_the_class_token_only() -> None:
    h = fisher_mc(net(), RandomImages(), ["blocks.1"], draws=1)["blocks.1"]  # (17, 32)
    assert (h[0] > 0).any()
    assert (h[1:] == 0).all()


def test_fisher_mc_of_several_tensors_and_sizes_is_by_channel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 1)).eval()
    found = prepare(two_block_models()["ViT"], BITS)
    object.__setattr__(found, "model", model)

    class Both(TwoSizes):
        def forward(self, model: nn.Module, batch: Any) -> Any:
            return (model(batch), model(batch).mean((2, 3), keepdim=True))

    assert fisher_mc(found, Both(), ["0"], draws=1)["0"].shape == (5,)


def test_gradient_parts_come_batch_by_batch() -> None:
    found = net(quantised=True)
    layers = [use.operator for use in survey(found, RandomImages()).values()][:1]
    (parts,) = output_gradient_parts(found, RandomImages(), layers, "quantised")
    assert [len(part) for part in parts] == [4, 4]
