"""Families of classifiers, and the wider groups that they belong to."""

from __future__ import annotations

HYBRID_FAMILIES = frozenset({"mobilevit", "mobilevitv2", "efficientformer", "efficientformerv2"})
"""Families that alternate convolutions and attention."""


def family_groups(family: str) -> tuple[str, ...]:
    """Return the wider families that `family` belongs to, as a model card declares them."""
    return ("hybrid",) if family in HYBRID_FAMILIES else ()
