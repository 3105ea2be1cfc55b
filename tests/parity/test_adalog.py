"""AdaLog beside its official code: tables of the adaptive base, what they put out, and the fold of the shift."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.parity.figures import TIES, assert_close, official
from vitptq.bench.bits import BitSpec
from vitptq.methods.core.model.operands import Linear
from vitptq.methods.core.quantizers.adaptive_log import GELU_DEPTH, AdaptiveLog, decoded, fold_shift
from vitptq.methods.core.quantizers.uniform import Uniform

FIGURES = official("adalog")
BITS, BASES = (6, 4, 3), (10, 20, 37, 60, 137)


def released(bits: int, base: float, ceiling: float = 1.0, shift: float = 0.0) -> AdaptiveLog:
    """Return the quantizer with 2^b non-zero values and 0 as one more, as in the released code."""
    return AdaptiveLog(bits, torch.tensor(ceiling), torch.tensor(float(base)), shift=shift, zero_code="extra")


@pytest.mark.parametrize("bits", BITS)
def test_tables_of_all_bases_are_the_official_ones(bits: int) -> None:
    assert_close(decoded(torch.arange(10, 138).float(), bits, "extra"), FIGURES[f"table_{bits}"])


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("name", "ceiling"), [("x_{}_out", 1.0), ("x_{}_ceiling_out", 0.7)])
def test_values_are_the_official_ones(name: str, ceiling: float, bits: int) -> None:
    ours = torch.stack([released(bits, base, ceiling)(FIGURES["in_x"]) for base in BASES])
    assert_close(ours, FIGURES[name.format(bits)], apart=TIES)


@pytest.mark.parametrize("bits", BITS)
def test_shifted_values_are_the_official_ones(bits: int) -> None:
    ours = torch.stack([released(bits, base, 2.5, GELU_DEPTH)(FIGURES["in_gelu_x"]) for base in BASES])
    assert_close(ours, FIGURES[f"gelu_x_{bits}_out"], apart=TIES)


@pytest.mark.parametrize(("bits", "base"), [(4, 20), (3, 37)])
def test_real_activations_are_on_the_official_values(bits: int, base: int) -> None:
    softmax = released(bits, base)(FIGURES["in_softmax"][:1])
    gelu = released(bits, base, 2.0, GELU_DEPTH)(FIGURES["in_gelu"][:, :20])
    assert_close(softmax, FIGURES[f"softmax_{bits}_{base}_out"], apart=TIES)
    assert_close(gelu, FIGURES[f"gelu_{bits}_{base}_out"], apart=TIES)


def layer(weight: Tensor, bias: Tensor, bits: int) -> Linear:
    plain = nn.Linear(weight.shape[1], weight.shape[0])
    plain.weight.data, plain.bias.data = weight.clone(), bias.clone()
    return Linear(plain.requires_grad_(False), BitSpec(bits, bits), "gelu")


@pytest.mark.parametrize("bits", BITS)
def test_shift_folds_into_the_official_bias(bits: int) -> None:
    reader = layer(FIGURES["in_fc2_weight"], FIGURES["in_fc2_bias"], bits)
    scale, zero = (FIGURES[f"post_gelu_{bits}_weight_{name}"] for name in ("scale", "zero_point"))
    reader.weight_operand.quantizer = Uniform(bits, scale, zero, axis=0, granularity="channel")
    reader.input_operand.quantizer = AdaptiveLog(
        bits, FIGURES[f"post_gelu_{bits}_ceiling"], FIGURES[f"post_gelu_{bits}_q"][0], shift=GELU_DEPTH,
        zero_code="extra",
    )  # fmt: skip
    fold_shift(reader)
    assert_close(reader.bias, FIGURES[f"post_gelu_{bits}_bias"])
