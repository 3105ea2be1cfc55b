"""The search by the block's output: the best of what was tried, block after block."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.model.divided_linear import DividedLinear
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.quantizers.row_maximum import RowMaximum
from vitptq.methods.core.search.channel_search import ChannelSearch

W4A4 = BitSpec(4, 4)
SEARCH = ChannelSearch((0.999, 0.9999, 0.99999), (0.0, 0.1, 0.25), (0.0, 0.5), 256, lambda s, _: RowMaximum(s.bits))
Rows = list[dict[str, object]]


def searched(search: ChannelSearch, model: nn.Module) -> tuple[PreparedModel, Rows]:
    net = prepare(model, W4A4)
    with listening() as log:
        search.run(net, prepare(model, W4A4), RandomImages())
    return net, [dict(row) for row in log.tables["factors of channels"].rows]


def test_the_chosen_exponent_has_the_least_error() -> None:
    _, rows = searched(SEARCH, two_block_models()["ViT"])
    fixed = [searched(replace(SEARCH, alphas=(alpha,)), two_block_models()["ViT"])[1][0] for alpha in SEARCH.alphas]
    errors = {row["alpha"]: row["error"] for row in fixed}
    assert rows[0]["error"] == min(errors.values())  # type: ignore[type-var]
    assert errors[rows[0]["alpha"]] == rows[0]["error"]


def test_later_blocks_do_not_change_what_an_earlier_one_gets() -> None:
    model, changed = two_block_models()["ViT"], two_block_models()["ViT"]
    with torch.no_grad():
        changed.get_parameter("blocks.1.mlp.fc1.weight").mul_(3)
    (_, one), (_, other) = searched(SEARCH, model), searched(SEARCH, changed)
    assert one[:4] == other[:4]
    assert one[6:] != other[6:]


def test_every_slot_has_a_grid_and_the_patch_embedding_8_bits() -> None:
    for name in ("ViT", "Swin"):
        net, _ = searched(SEARCH, two_block_models()[name])
        assert all(slot.quantizer is not None for slot in net.operands.values())
        assert net.operands["patch_embed.proj.input_operand"].quantizer.bits == 8  # type: ignore[union-attr]


def test_inputs_behind_a_gelu_are_divided_with_many_images_alone() -> None:
    few, _ = searched(replace(SEARCH, divisor_alphas=(0.0,)), two_block_models()["ViT"])
    assert not isinstance(few.model.get_submodule("blocks.0.mlp.fc2"), DividedLinear)
    _, rows = searched(replace(SEARCH, gelu_images=1), two_block_models()["ViT"])
    assert rows[3]["error"] < rows[3]["largest error"]  # type: ignore[operator]


def test_the_float_function_stays_whatever_was_chosen() -> None:
    model = two_block_models()["ViT"]
    net, _ = searched(replace(SEARCH, gelu_images=1, divisor_alphas=(0.3,)), model)
    (batch,) = RandomImages().batches()
    with torch.no_grad():
        torch.testing.assert_close(net.switch(False)(batch), model(batch), rtol=1e-5, atol=1e-5)
