"""What the audit saw, arranged for the page of a run."""

from tests.bench.board_factory import only_row
from tests.bench.record_factory import make_audit, make_cell, make_record
from vitptq.bench.website.operand_tables import bit_map, macs_by_width, products, same_map


def test_products_stand_in_the_order_of_the_network_with_their_two_operands():
    found = products(make_record())

    assert [(p.module, [o.role for o in p.operands]) for p in found[:3]] == [
        ("patch_embed.proj", ["stem_input", "weight"]),
        ("blocks.0.attn.qkv", ["input", "weight"]),
        ("blocks.0.attn.scores", ["query", "key"]),
    ]
    assert (found[0].widths, found[1].widths) == ("8 × 4 bit", "4 × 4 bit")


def test_multiply_accumulates_by_width_sum_to_all_of_them_largest_first():
    shares = macs_by_width(make_record())

    assert [widths for widths, _ in shares] == ["4 × 4 bit", "8 × 4 bit"]
    assert sum(share for _, share in shares) == 100


def test_a_float_model_has_no_width_in_bits():
    assert [widths for widths, _ in macs_by_width(make_record(make_cell(bits="W32A32")))] == ["float × float"]


def test_the_bit_map_groups_operands_by_role():
    roles = dict(bit_map(make_record()))

    assert set(roles) == {"stem_input", "weight", "input", "query", "key", "softmax", "value"}
    assert len(roles["softmax"]) == 6


def test_seeds_that_quantise_other_operands_have_another_map():
    cells = [make_cell(seed=0), make_cell(seed=1)]
    other = [
        make_record(cell, audit=make_audit(cell, blocks=blocks)) for cell, blocks in zip(cells, (6, 5), strict=True)
    ]

    assert same_map(only_row([make_record(cell) for cell in cells]))
    assert not same_map(only_row(other))


def test_a_record_without_an_audit_has_no_products():
    assert products(make_record(failure="raised")) == ()
    assert macs_by_width(make_record(failure="raised")) == ()
