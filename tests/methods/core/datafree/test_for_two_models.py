"""Images for a float and a quantised model: what they lower, and that the same seed makes the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import DataFree
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import CPU, INPUT, two_block_models
from vitptq.methods.core.datafree.attention_terms import masked_difference
from vitptq.methods.core.datafree.for_two_models import (
    MaskedRecipe,
    images_for_two,
    logits_of,
    prefix_tokens,
    products_of,
    seen,
    variation,
)
from vitptq.methods.core.datafree.generate import noise
from vitptq.methods.core.datafree.images import black_and_white
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.maskaq import set_ranges

GIVEN = DataFree(INPUT, CPU, 1)
FEW = MaskedRecipe(batch=4, steps=3)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def models(name: str = "ViT") -> tuple[PreparedModel, PreparedModel]:
    teacher, student = (prepare(two_block_models()[name], BitSpec(3, 3)) for _ in range(2))
    set_ranges(student, GIVEN, [noise("gaussian", 8, INPUT, CPU, draws())])
    return teacher, student


@pytest.mark.parametrize("name", ["ViT", "Swin"])
def test_the_same_seed_makes_the_same_images_inside_the_range_of_pictures(name: str) -> None:
    one, other = (images_for_two(*models(name), GIVEN, FEW, draws()) for _ in range(2))
    black, white = black_and_white(INPUT, CPU)
    assert torch.equal(one, other) and one.shape == (4, 3, 32, 32)
    assert (one >= black - 1e-6).all() and (one <= white + 1e-6).all()
    assert not torch.equal(one, images_for_two(*models(name), GIVEN, FEW, draws(7)))


def test_the_masked_difference_brings_the_models_attention_together() -> None:
    teacher, student = models()
    alone = replace(FEW, steps=60, heads=0, classes=0, variation=0, entropy=0, difference=1.0)

    def difference(images: torch.Tensor) -> float:
        with torch.no_grad(), products_of(teacher, "query") as one, products_of(student, "query") as other:
            logits_of(teacher, images), logits_of(student, images)
        return masked_difference(one, other, 1, 0.3, draws()).item()

    start = images_for_two(teacher, student, GIVEN, replace(alone, steps=0), draws())
    assert difference(images_for_two(teacher, student, GIVEN, alone, draws())) < difference(start)


def test_neither_model_is_changed_or_left_with_gradients() -> None:
    teacher, student = models()
    before = [p.clone() for p in student.model.parameters()]
    images_for_two(teacher, student, GIVEN, FEW, draws())
    assert all(torch.equal(a, b) for a, b in zip(before, student.model.parameters(), strict=True))
    assert not any(p.requires_grad for net in (teacher, student) for p in net.model.parameters())


def test_variation_by_hand() -> None:
    image = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])
    beside, below, diagonals = (1 + 4) ** 0.5, (4 + 9) ** 0.5, (2 - 1) + 4
    assert variation(image).item() == pytest.approx(beside + below + diagonals / 2**0.5, abs=1e-5)


def test_a_view_has_other_colours_and_its_brightness_changes_ever_less() -> None:
    images = torch.zeros(2, 3, 32, 32)
    early, late = (seen(images, INPUT, done, draws()) for done in (0.0, 0.999))
    assert (early.flatten(2).std(-1) < 1e-6).all()  # one colour stays one colour
    assert not torch.allclose(early, late)


def test_tokens_in_front_of_the_patches_are_counted() -> None:
    assert [prefix_tokens(models(name)[0]) for name in ("ViT", "Swin")] == [1, 0]


def test_a_model_that_puts_out_no_logits_is_refused() -> None:
    teacher, student = models()
    for net in (teacher, student):
        net.model.forward = lambda images: images  # type: ignore[method-assign]
    with pytest.raises(Unsupported, match="need a classifier's logits"):
        images_for_two(teacher, student, GIVEN, FEW, draws())
