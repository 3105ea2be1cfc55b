"""PSAQ-ViT V1 beside its official code: patch similarity, image priors, step sizes and clipping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import assert_close, official
from vitptq.bench.contracts.method import InputSpec
from vitptq.methods.core.datafree.generate import Recipe, schedule
from vitptq.methods.core.datafree.images import black_and_white, total_variation
from vitptq.methods.core.datafree.similarity import BANDWIDTH, Entropy, _groups, _kernels, grid_of, integral

FIGURES = official("psaq_vit")
GRADIENT = 1e-4
"""Of the largest entry: the entropy's gradient sums over 10 grid points per pair of patches in float32."""
HALF_PRECISION = 2**-11
"""Of the largest: the official similarities are stored so."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(("tensor", "result", "images"), [("attention", "entropy", 4), ("random", "random_entropy", 2)])
def test_entropy_of_patch_similarity_is_the_official_one(tensor: str, result: str, images: int) -> None:
    attention = FIGURES[f"in_{tensor}"].clone().requires_grad_()
    entropy = Entropy()(attention, images)
    entropy.backward()
    assert attention.grad is not None
    assert_close(entropy, FIGURES[result])
    assert_close(attention.grad, FIGURES[f"{result}_grad"], relative=GRADIENT)


def test_density_is_estimated_at_the_official_points() -> None:
    directions = nn.functional.normalize(FIGURES["in_attention"].mean(1)[:, 1:], dim=-1)[:, None]
    assert_close(grid_of(directions, 10, 2**26), FIGURES["grid"])


def cosines() -> tuple[Tensor, Tensor]:
    """Return the directions of the patches, (4, 1, 64, 32), and the cosines of the first image's, (64, 64)."""
    directions = nn.functional.normalize(FIGURES["in_attention"].mean(1)[:, 1:], dim=-1)[:, None]
    return directions, directions[0, 0] @ directions[0, 0].T


def test_similarities_of_patches_are_the_official_ones() -> None:
    assert_close(cosines()[1], FIGURES["sims"], relative=HALF_PRECISION)


def test_density_at_the_official_points_is_the_official_one() -> None:
    directions, _ = cosines()
    ((group, (part,)),) = _groups(directions, 2**26)
    sums = _kernels(part.similarities(group), FIGURES["grid"])[1] @ part.counts
    assert_close(sums / (math.sqrt(2 * math.pi) * BANDWIDTH * 64**2), FIGURES["density"])


def test_entropy_of_the_official_density_is_the_official_one() -> None:
    assert_close(integral(FIGURES["density"], FIGURES["grid"]), FIGURES["entropy"])


def test_total_variation_and_its_gradient_are_the_official_ones() -> None:
    images = FIGURES["in_images"].clone().requires_grad_()
    variation = total_variation(images)
    variation.backward()
    assert images.grad is not None
    assert_close(variation, FIGURES["variation"])
    assert_close(images.grad, FIGURES["variation_grad"])


@pytest.mark.parametrize("target", [2500, 2750])
def test_loss_is_the_sum_of_the_official_terms(target: int) -> None:
    loss = Recipe(batch=4).loss([FIGURES["in_attention"]], FIGURES["in_images"], target)
    assert_close(loss, 0.05 * FIGURES[f"variation_loss_{target}"] - FIGURES["entropy"])


def test_loss_of_the_classes_and_its_gradient_are_the_official_ones() -> None:
    logits = FIGURES["in_logits"].clone().requires_grad_()
    loss = Recipe().class_loss(logits, FIGURES["in_classes"])
    loss.backward()
    assert logits.grad is not None
    assert_close(loss, FIGURES["one_hot"])
    assert_close(logits.grad, FIGURES["one_hot_grad"])


def test_step_sizes_are_the_official_ones() -> None:
    ours = torch.tensor([0.2 * schedule(step, 500) for step in range(500)], dtype=torch.float64)
    assert_close(ours, FIGURES["rates"])


def test_images_are_clipped_to_black_and_white() -> None:
    black, white = black_and_white(InputSpec((3, 224, 224), IMAGENET_MEAN, IMAGENET_STD), torch.device("cpu"))
    assert_close(FIGURES["in_clip"].clamp(black, white), FIGURES["clip"])
