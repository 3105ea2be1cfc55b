"""PTQ4ViT beside its official code: twin grids, what every candidate loses, and which one is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import TIES, assert_close, assert_same, official
from tests.parity.official_images import OfficialImages, normalised
from tests.parity.slots import slot_name
from vitptq.bench.bits import BitSpec, Role
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Linear, MatMul
from vitptq.methods.core.model.prepare import prepare
from vitptq.methods.core.quantizers.twin_uniform import TwinGelu, TwinSoftmax
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search.alternating import SlotSearch, alternate, at_own_output
from vitptq.methods.core.search.candidate_losses import OutputLosses
from vitptq.methods.core.search.candidates import Candidates, Grouping, Scales, multiples, symmetric, whole_tensor
from vitptq.methods.core.search.objective import Cosine, Objective, SquaredError
from vitptq.methods.core.search.recording import MEGABYTE, SIDES, Operator, Recording, Side, set_on_first_batch, sides
from vitptq.methods.ptq4vit import GeluScales, PTQ4ViT, Splits
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS

FIGURES = official("ptq4vit")
HEADS = Grouping(1, torch.arange(3), "head")
Metric = Literal["hessian", "cosine"]
CASES = list(product(("linear", "matmul", "twin_softmax", "twin_gelu"), (8, 4), ("hessian", "cosine")))
SPLIT = "blocks.{}.attn.matmul2"
EQUALLY_GOOD = 1e-5
"""Of the metric: a candidate this close to the best is told from it by the order of float32 sums alone."""


def linear(name: str, x: str, gradient: str, role: Role, bits: int) -> Recording:
    weight, bias = FIGURES[f"in_{name}_weight"], FIGURES.get(f"in_{name}_bias")
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    plain.weight.data = weight.clone()
    if bias is not None:
        plain.bias.data = bias.clone()
    operator = Linear(plain.requires_grad_(False), BitSpec(bits, bits), role)
    output = nn.functional.linear(FIGURES[x], weight, bias)
    return Recording(operator, weight, FIGURES[x], output, FIGURES[gradient])


def recording(case: str, bits: int) -> Recording:
    """Return what the official search was given."""
    if case == "linear":
        return linear("fc1", "in_ln2_output", "in_grad_fc1", "input", bits)
    if case == "twin_gelu":
        return linear("fc2", "in_gelu", "in_grad_fc2", "gelu", bits)
    if case == "matmul":
        left, right, operator = (
            FIGURES["in_query"],
            FIGURES["in_key"],
            MatMul("query", "key", BitSpec(bits, bits), transpose=True),
        )
        return Recording(operator, left, right, left @ right.mT, FIGURES["in_grad_qk"])
    left, right = FIGURES["in_softmax"], FIGURES["in_value"]
    return Recording(MatMul("softmax", "value", BitSpec(bits, bits)), left, right, left @ right, FIGURES["in_grad_av"])


def candidates(case: str, seen: Recording, bits: int) -> tuple[Candidates, Candidates]:
    """Return the candidates of both sides."""
    factors, group = multiples(0.01, 1.2, 100), HEADS if isinstance(seen.operator, MatMul) else whole_tensor()
    first = Splits(bits, seen.first, "sum") if case == "twin_softmax" else symmetric(group, seen.first, bits, factors)
    if case == "twin_gelu":
        return first, GeluScales(bits, seen.second, factors, tie_pow2=False)
    return first, symmetric(group, seen.second, bits, factors)


def objective(metric: Metric, of: Candidates) -> Objective:
    return SquaredError(None, of.by_head) if metric == "hessian" else Cosine(None, of.by_head)


@cache
def searched(case: str, bits: int, metric: Metric) -> list[SlotSearch]:
    """Return both slots as our search leaves them."""
    seen = recording(case, bits)
    parts = zip(sides(seen.operator), SIDES, (seen.first, seen.second), candidates(case, seen, bits), strict=True)
    slots = [SlotSearch.of(slot, side, [x], [family]) for slot, side, x, family in parts]
    alternate(slots, at_own_output([seen], slots, 256 * MEGABYTE, lambda _, of: objective(metric, of)), 3)
    return slots


def losses(seen: Recording, side: int, of: Candidates, metric: Metric) -> Tensor:
    """Return what each candidate of a side loses, (candidates, groups), as the official metric counts it."""
    found = OutputLosses(seen, SIDES[side], of, objective(metric, of))
    each = torch.cat(
        [found.losses(torch.arange(k, min(k + 10, of.count)), slice(None)).sum(1) for k in range(0, of.count, 10)]
    )
    heads, positions, channels = found.target.shape[1:]
    judged = positions * (1 if of.by_head else heads)
    if metric == "hessian":
        return -each.double() / (judged * channels)
    return len(seen.output) - each.double() / judged


def official_scores(case: str, bits: int, metric: Metric, side: int) -> Tensor:
    """Return the official metric of a side's candidates in each round, (rounds, candidates, groups)."""
    key = f"{case}_{bits}_{metric}_scores"
    found = FIGURES[f"{key}_{'AB'[side]}"] if case == "twin_softmax" else FIGURES[key][side::2]
    return found.reshape(*found.shape[:2], -1)


@pytest.mark.parametrize(("case", "bits", "metric"), CASES)
def test_losses_of_the_first_sides_candidates_are_the_official_ones(case: str, bits: int, metric: Metric) -> None:
    seen = recording(case, bits)
    first, second = candidates(case, seen, bits)
    if not first.other_in_float:
        seen = Recording(seen.operator, seen.first, second.default()(seen.second), seen.output, seen.gradient)
    assert_close(losses(seen, 0, first, metric), official_scores(case, bits, metric, 0)[0], relative=5e-5)


@pytest.mark.parametrize(("case", "bits", "metric"), CASES)
def test_chosen_candidates_are_the_official_ones_or_equally_good(case: str, bits: int, metric: Metric) -> None:
    for side, slot in enumerate(searched(case, bits, metric)):
        assert slot.winner is not None
        place = slot.winner[1]
        last = official_scores(case, bits, metric, side)[-1]
        best, found = last.amax(0), last.gather(0, place.expand(last.shape[1])[None])[0]
        assert (found >= best - EQUALLY_GOOD * best.abs()).all(), f"side {side}: {(best - found).tolist()}"


def chosen(case: str, slot: SlotSearch) -> Tensor:
    quantizer = slot.quantizer
    if isinstance(quantizer, TwinSoftmax):
        return torch.as_tensor(quantizer.split)
    assert isinstance(quantizer, Uniform | TwinGelu)
    return quantizer.scale


@pytest.mark.parametrize(("case", "bits", "metric"), CASES)
def test_chosen_scales_are_the_official_ones(case: str, bits: int, metric: Metric) -> None:
    """But for a product at 8 bits by the cosine: one of three heads takes a candidate that is equally good."""
    names = {"twin_softmax": ("split", "B"), "matmul": ("A", "B")}.get(case, ("weight", "input"))
    apart = 1 / 3 if (case, bits, metric) == ("matmul", 8, "cosine") else 0.0
    for name, slot in zip(names, searched(case, bits, metric), strict=True):
        assert_close(chosen(case, slot), FIGURES[f"{case}_{bits}_{metric}_{name}"], relative=1e-6, apart=apart)


def twin_grids() -> Iterator[tuple[str, str]]:
    for name in FIGURES:
        if name.startswith(("twin_softmax_", "twin_x_")) and name.endswith("_out"):
            yield name, "in_twin_x" if name.startswith("twin_x") else "in_softmax"


@pytest.mark.parametrize(("name", "given"), list(twin_grids()))
def test_added_twin_ranges_are_the_official_ones(name: str, given: str) -> None:
    bits, exponent = (int(part) for part in name.split("_")[2:4])
    x = FIGURES[given] if given == "in_twin_x" else FIGURES[given][:1]
    assert_close(TwinSoftmax(bits, exponent, form="sum")(x), FIGURES[name], apart=TIES)


@pytest.mark.parametrize("bits", [8, 4])
def test_twin_grid_behind_the_gelu_is_the_official_one(bits: int) -> None:
    grid = TwinGelu(bits, FIGURES[f"twin_gelu_{bits}_hessian_input"])
    assert_close(grid(FIGURES["in_gelu"]), FIGURES[f"twin_gelu_{bits}_out"], apart=TIES)


@cache
def official_candidates() -> Mapping[str, Candidates]:
    """Return the candidates of every slot of mini_vit at W4A4 on 32 images, by the slot's name."""
    net, method = prepare(CLASSIFIERS["mini_vit"].load(), BitSpec(4, 4)), PTQ4ViT(form="released")
    found: dict[str, Candidates] = {}

    def take(name: str, operator: Operator, side: Side, x: Tensor) -> Quantizer:
        slot = sides(operator)[SIDES.index(side)]
        (found[slot.name],) = method._families(net, name, operator, side, x)
        return found[slot.name].default()

    set_on_first_batch(net, OfficialImages(), take)
    return found


def searched_scales() -> list[str]:
    """Return the official scales that were searched: not the float image's, nor that which follows from a split."""
    apart = ("patch_embed.proj/a_interval", "matmul2/A_interval")
    return [name for name in FIGURES if name.endswith("_interval") and not name.endswith(apart)]


@pytest.mark.parametrize("name", searched_scales())
def test_every_scale_of_the_official_model_is_a_candidate(name: str) -> None:
    """Which one it takes follows from gradients that are rounding noise; the choice itself is compared above."""
    candidates = official_candidates()[slot_name(name.partition("/")[2])]
    assert isinstance(candidates, Scales | GeluScales)
    scales = candidates.scales.reshape(candidates.count, -1)
    nearest = (scales / FIGURES[name].reshape(-1) - 1).abs().amin(0)
    assert (nearest < 1e-6).all()


@pytest.mark.parametrize("block", range(6))
def test_the_split_of_the_official_model_is_a_candidate(block: int) -> None:
    splits = official_candidates()[f"blocks.{block}.attn.av.left_operand"]
    assert isinstance(splits, Splits)
    (twin,) = (twin for twin in splits.twins if twin.split == FIGURES[f"final_W4A4/{SPLIT.format(block)}/split"].item())
    assert_close(twin.split / twin.steps, FIGURES[f"final_W4A4/{SPLIT.format(block)}/A_interval"])


def nearest(candidates: Candidates, official_scale: Tensor) -> Quantizer:
    """Return the grid of the candidates with the scale, or the split, that is nearest to the official one."""
    if isinstance(candidates, Splits):
        found = torch.tensor([twin.split for twin in candidates.twins])
        return candidates.quantizer((found - official_scale).abs().argmin())
    assert isinstance(candidates, Scales | GeluScales)
    scales = candidates.scales.reshape(candidates.count, -1)
    return candidates.quantizer((scales / official_scale.reshape(-1) - 1).abs().argmin(0))


@torch.no_grad()
def test_model_on_the_official_grids_puts_out_the_official_logits() -> None:
    """But for values on ties; the official code itself moves by more with other matrix kernels."""
    net, families = prepare(CLASSIFIERS["mini_vit"].load(), BitSpec(4, 4)), official_candidates()
    for slot in net.operands.values():
        slot.quantizer = families[slot.name].default()
    for name in (*searched_scales(), *(f"final_W4A4/{SPLIT.format(block)}/split" for block in range(6))):
        place = slot_name(name.partition("/")[2].replace("split", "A_interval"))
        net.model.get_submodule(place).quantizer = nearest(families[place], FIGURES[name])
    logits, theirs = net.switch(True, image=False)(normalised("evaluation")), FIGURES["logits_W4A4"]
    in_float = CLASSIFIERS["mini_vit"].load()(normalised("evaluation"))
    assert_same(logits.argmax(1), theirs.argmax(1))
    assert (logits - theirs).square().mean() < 0.01 * (in_float - theirs).square().mean()
