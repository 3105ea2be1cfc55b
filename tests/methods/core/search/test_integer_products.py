"""Products by integer codes: those of the values, and the same losses and winners as in floats."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.methods.core.search.operator_recordings import BITS
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.quantizers.twin_uniform import TwinGelu
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.search import candidate_losses as module
from vitptq.methods.core.search.candidate_losses import CodeLosses, CosineOfInputs, OutputLosses, candidate_losses
from vitptq.methods.core.search.candidates import Candidates, Grouping, by_index, multiples, symmetric, whole_tensor
from vitptq.methods.core.search.integer_products import codes_of, products_of_weights
from vitptq.methods.core.search.objective import CHANNELS, Cosine, Objective, SquaredError
from vitptq.methods.core.search.operator_outputs import in_rows
from vitptq.methods.core.search.recording import Recording, Side
from vitptq.methods.ptq4vit import GeluScales

WIDTH, ROWS, OUT = 12, 40, 18
FACTORS = multiples(0.3, 1.2, 9)
QKV = Grouping(0, torch.arange(OUT) // 6, "channel", torch.arange(OUT) // 6)


@pytest.fixture(autouse=True)
def whatever_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bytes", lambda device: True)
    monkeypatch.setattr(module, "NARROW", 0)


def layer_and_input() -> tuple[Linear, Tensor]:
    torch.manual_seed(0)
    return Linear(nn.Linear(WIDTH, OUT), BITS).requires_grad_(False), nn.functional.gelu(2 * torch.randn(ROWS, WIDTH))


def signed(scale: float, bits: int = 8) -> Uniform:
    return Uniform(bits, torch.tensor([scale]), torch.zeros(1), signed=True)


@pytest.mark.parametrize("quantizer", [signed(0.02), signed(0.3, 4), TwinGelu(6, torch.tensor(0.1))])
def test_codes_times_scales_are_the_values(quantizer: Quantizer) -> None:
    _, x = layer_and_input()
    x = quantizer(x)
    terms = codes_of(x, quantizer)
    assert terms and all(term.values.dtype == torch.int8 for term in terms)
    total = torch.stack([term.values.float() * term.scale for term in terms]).sum(0)
    torch.testing.assert_close(total, x, rtol=1e-6, atol=0)


def test_other_grids_have_no_codes() -> None:
    _, x = layer_and_input()
    shifted = Uniform(4, torch.tensor([0.1]), torch.tensor([3.0]))
    by_input = Uniform(4, torch.full((WIDTH,), 0.1), torch.zeros(WIDTH), axis=-1, granularity="channel", signed=True)
    assert codes_of(x, shifted) == codes_of(x, by_input) == codes_of(x, None) == ()


def test_the_largest_codes_of_a_wide_layer_do_not_overflow() -> None:
    weight, x = torch.full((1, 5000), -1.28), torch.full((1, 5000), -1.28)
    (w,), (rows,) = codes_of(weight, signed(0.01)), codes_of(x, signed(0.01))
    stack = replace(w, values=w.values[None], scale=w.scale[None])
    assert products_of_weights(stack, rows).item() == pytest.approx(5000 * 1.28**2)


def question(case: str) -> tuple[Side, Candidates, Tensor | None, Quantizer]:
    """Return a side, what it may become, the group of each output channel, and the grid of the other side."""
    layer, x = layer_and_input()
    rows = Uniform(4, torch.rand(OUT) / 9 + 0.01, torch.zeros(OUT), axis=0, granularity="channel", signed=True)
    return {
        "weight": ("first", symmetric(whole_tensor(), layer.weight, 4, FACTORS), None, signed(0.2, 4)),
        "weight of q, k, v": ("first", symmetric(QKV, layer.weight, 4, FACTORS), QKV.judged, signed(0.2, 4)),
        "weight before a twin": ("first", symmetric(whole_tensor(), layer.weight, 4, FACTORS), None,
                                 TwinGelu(4, torch.tensor(0.3))),
        "input": ("second", symmetric(whole_tensor(), x, 4, FACTORS), None, rows),
        "twin input": ("second", GeluScales(4, x, FACTORS, tie_pow2=False), None, rows),
    }[case]  # type: ignore[return-value]  # fmt: skip


@pytest.mark.parametrize("measure", [SquaredError, lambda groups: Cosine(groups, axes=CHANNELS)])
@pytest.mark.parametrize("case", ["weight", "weight of q, k, v", "weight before a twin", "input", "twin input"])
def test_losses_are_those_of_the_float_products(case: str, measure: type[Objective]) -> None:
    layer, x = layer_and_input()
    side, candidates, groups, grid = question(case)
    whole = in_rows(Recording(layer, layer.weight, x, layer(x), torch.randn(ROWS, OUT)))
    fixed = replace(whole, second=grid(x)) if side == "first" else replace(whole, first=grid(layer.weight))
    objective = measure(groups)
    by_codes = candidate_losses([fixed], side, candidates, objective, grid)
    assert isinstance(by_codes, CodeLosses)
    places, order = torch.tensor([4, 0, 8]), torch.randperm(ROWS)
    for found, expected in (
        (by_codes, OutputLosses(fixed, side, candidates, objective)),
        (by_codes.ordered(order), OutputLosses(fixed, side, candidates, objective).ordered(order)),
    ):
        part = slice(3, 31)
        torch.testing.assert_close(found.losses(places, part), expected.losses(places, part), rtol=1e-4, atol=1e-6)


def test_narrow_inputs_are_compared_without_outputs_also_where_products_are_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, x = layer_and_input()
    _, candidates, _, grid = question("input")
    recording = in_rows(Recording(layer, grid(layer.weight), x, layer(x)))
    found = {}
    for narrow in (WIDTH - 1, WIDTH):
        monkeypatch.setattr(module, "NARROW", narrow)
        losses = candidate_losses([recording], "second", candidates, Cosine(axes=CHANNELS), grid)
        found[type(losses)] = losses.losses(torch.arange(9), slice(0, ROWS))
    assert list(found) == [CodeLosses, CosineOfInputs]
    torch.testing.assert_close(*found.values(), rtol=1e-3, atol=1e-6)


def test_codes_that_are_too_large_to_keep_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_and_input()
    side, candidates, _, grid = question("weight")
    recording = replace(in_rows(Recording(layer, layer.weight, x, layer(x))), second=grid(x))
    found = []
    for kept in (module.KEPT, 0):
        monkeypatch.setattr(module, "KEPT", kept)
        losses = candidate_losses([recording], side, candidates, SquaredError(), grid)
        assert isinstance(losses, CodeLosses)
        found.append(losses.losses(torch.tensor([1, 5]), slice(0, ROWS)))
        assert bool(losses.kept) == bool(kept)
    assert torch.equal(*found)


def test_grids_without_codes_and_other_processors_take_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_and_input()
    recording = in_rows(Recording(layer, layer.weight, x, layer(x)))
    candidates = symmetric(by_index(x, -1), x, 4, FACTORS)
    assert type(candidate_losses([recording], "second", candidates, SquaredError(), signed(0.1))) is OutputLosses
    whole = symmetric(whole_tensor(), x, 4, FACTORS)
    assert type(candidate_losses([recording], "second", whole, SquaredError(), None)) is OutputLosses
    monkeypatch.setattr(module, "multiplies_bytes", lambda device: False)
    assert type(candidate_losses([recording], "second", whole, SquaredError(), signed(0.1))) is OutputLosses
