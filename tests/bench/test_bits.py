"""Bit specs: what can be written, and what it means for a tensor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitptq.bench.bits import FLOAT, PARTS, BitSpec
from vitptq.bench.errors import BadInput, UnknownName

WIDTHS = st.sampled_from([*range(2, 9), 32])


@given(WIDTHS, WIDTHS, st.lists(st.sampled_from(list(PARTS)), unique=True), st.booleans(), st.integers(0, 95))
def test_text_of_a_spec_reads_back(weights: int, activations: int, parts: list[str], mixed: bool, removed: int) -> None:
    spec = BitSpec(weights, activations, tuple(parts), mixed=mixed, removed=removed)
    assert BitSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["W4", "4/4", "W4A4+", "W4A4 neck", "", "W-4A4"])
def test_other_forms_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="for example W4A4"):
        BitSpec.parse(text)


@pytest.mark.parametrize("text", ["W1A8", "W4A9", "W16A16", "W0A0"])
def test_other_widths_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="a width is 2 to 8, or 32 for float"):
        BitSpec.parse(text)


def test_unknown_part_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UnknownName, match='unknown part of a model "necks"; known: heads, neck'):
        BitSpec.parse("W4A4+necks")


def test_image_has_eight_bits_and_float_where_all_activations_are() -> None:
    assert BitSpec(4, 4).width("stem_input") == 8
    assert BitSpec(4, 32).width("stem_input") == 32


@pytest.mark.parametrize(
    ("role", "bits"), [("weight", 3), ("input", 6), ("softmax", 6), ("query", 6), ("gelu", 6), ("value", 6)]
)
def test_weights_and_activations_have_their_own_width(role: str, bits: int) -> None:
    assert BitSpec(3, 6).width(role) == bits  # type: ignore[arg-type]


def test_neck_and_heads_are_left_unless_named() -> None:
    for module in ("neck.lateral_convs.0", "roi_head.bbox_head.0", "decode_head.conv"):
        assert BitSpec(4, 4).leaves(module)
        assert not BitSpec(4, 4, ("heads", "neck")).leaves(module)
    assert not BitSpec(4, 4).leaves("backbone.stages.0")


def test_only_both_widths_make_a_float_spec() -> None:
    assert FLOAT.is_float and not BitSpec(32, 8).is_float and not BitSpec(8, 32).is_float


def test_where_the_spec_is_an_average_an_operand_may_be_wider_but_the_image() -> None:
    spec = BitSpec(4, 4, mixed=True)
    assert (spec.width("weight"), spec.most("weight"), spec.most("softmax")) == (4, 10, 10)
    assert spec.most("stem_input") == 8
    assert BitSpec(4, 4).most("weight") == 4
    assert BitSpec(4, 32, mixed=True).most("input") == 32


def test_low_rank_factors_in_float_are_not_the_float_model() -> None:
    spec = BitSpec.parse("w32a32+LOWRANK60+neck")
    assert str(spec) == "W32A32+lowrank60+neck"
    assert not spec.is_float
    assert spec.dense == BitSpec(32, 32, ("neck",))


@pytest.mark.parametrize("text", ["W32A32+lowrank0", "W32A32+lowrank96", "W8A8+lowrank20+lowrank40"])
def test_percentages_without_sense_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="above 0 behind|take away 1 to 95 %"):
        BitSpec.parse(text)


def test_side_branches_stand_beside_quantised_blocks_alone() -> None:
    for text in ("W32A32+branch", "W4A4+branch+lowrank60"):
        with pytest.raises(BadInput, match="float side branches stand beside quantised blocks"):
            BitSpec.parse(text)
    assert str(BitSpec.parse("W4A4+neck+branch")) == "W4A4+branch+neck"
