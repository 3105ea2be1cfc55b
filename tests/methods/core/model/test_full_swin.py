"""Swin in full form: what merging reads, and what the published form does not have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.full_model import SCORE_BITS
from vitptq.methods.core.model.full_swin import FullSwinTransformer, FullWindowAttention
from vitptq.methods.core.model.prepare import prepare_in_full

BITS = BitSpec(4, 4)


def swin(**options: Any) -> nn.Module:
    arguments = {"img_size": 32, "patch_size": 2, "embed_dim": 16, "window_size": 4, "num_classes": 10}
    return SwinTransformer(**(arguments | {"depths": (2, 2), "num_heads": (1, 2)} | options)).eval()


def test_merged_channels_are_copies_side_by_side() -> None:
    _, full = prepare_in_full(swin(), BITS)
    (place,) = [place for place in full.norms() if place.copies != 1]
    seen: dict[str, Tensor] = {}
    place.before.register_forward_hook(
        lambda module, args, output: torch.arange(output.shape[-1]).expand_as(output) * 1.0
    )
    full.get_submodule(place.norm).register_forward_hook(lambda module, args, output: seen.update(x=args[0]))
    with torch.no_grad():
        full(torch.randn(2, 3, 32, 32))
    channels = torch.arange(seen["x"].shape[-1] // place.copies) * 1.0
    assert torch.equal(seen["x"][0, 0, 0], channels.repeat(place.copies))


def _numbered(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-1]).expand_as(x) * 1.0


def test_biases_have_the_nominal_width_and_what_they_are_added_to_that_of_scores() -> None:
    _, full = prepare_in_full(swin(), BITS)
    assert isinstance(full, FullSwinTransformer)
    for attention in full.attentions():
        assert isinstance(attention, FullWindowAttention)
        assert (attention.table.bits, attention.products.bits, attention.scores.bits) == (4, SCORE_BITS, SCORE_BITS)


def test_stream_holds_the_sums_and_merged_patches_but_not_the_embedding() -> None:
    _, full = prepare_in_full(swin(), BITS)
    assert len(full.stream()) == 2 * 4 + 1
    assert all(slot.name.startswith("layers.") for slot in full.stream())


@pytest.mark.parametrize(
    ("options", "reason"), [({"global_pool": ""}, "not averaged"), ({"num_classes": 0}, "no classifier")]
)
def test_what_the_published_form_does_not_have_is_unsupported(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsupported, match=f"no fully quantised form of a Swin with .*{reason}"):
        prepare_in_full(swin(**options), BITS)
