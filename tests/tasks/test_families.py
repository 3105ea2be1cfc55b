"""Families of classifiers."""

from __future__ import annotations

import pytest

from vitptq.tasks.families import family_groups


@pytest.mark.parametrize(
    ("family", "groups"), [("vit", ()), ("swin", ()), ("mobilevit", ("hybrid",)), ("efficientformerv2", ("hybrid",))]
)
def test_families_of_convolutions_and_attention_are_hybrids(family: str, groups: tuple[str, ...]) -> None:
    assert family_groups(family) == groups
