"""Bit specifications such as W4A4, and the operand map of the standard track."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bench.errors import BadInput

Role = Literal["weight", "input", "gelu", "stem_input", "query", "key", "value", "softmax"]
"""What a tensor is to the product that reads it. `stem_input` is the image at the patch embedding, `gelu` what leaves a
GELU, `softmax` the attention probabilities."""

FLOAT_BITS = 32
STEM_INPUT_BITS = 8


@dataclass(frozen=True, slots=True)
class BitSpec:
    """Nominal widths of weights and activations.

    >>> BitSpec.parse("W4A8")
    BitSpec(weights=4, activations=8)
    >>> str(BitSpec(3, 3)), BitSpec(4, 4).width("stem_input")
    ('W3A3', 8)
    """

    weights: int
    activations: int

    def __post_init__(self) -> None:
        for what, bits in (("weights", self.weights), ("activations", self.activations)):
            if bits != FLOAT_BITS and not 2 <= bits <= 8:
                raise BadInput(f"{bits} bits for {what}: a width is 2 to 8, or {FLOAT_BITS} for float")

    @classmethod
    def parse(cls, text: str) -> BitSpec:
        """Read "W4A4"; the widths are 2 to 8, or 32 for float."""
        match = re.fullmatch(r"[Ww](\d+)[Aa](\d+)", text)
        if match is None:
            raise BadInput(f'bit spec "{text}" is not of the form W<bits>A<bits>, for example W4A4')
        return cls(int(match[1]), int(match[2]))

    @property
    def is_float(self) -> bool:
        """Tell whether nothing is quantised."""
        return self.weights == FLOAT_BITS and self.activations == FLOAT_BITS

    def width(self, role: Role) -> int:
        """Return the nominal bits of an operand: the image enters the patch embedding at 8 bits, whatever the spec."""
        if role == "weight":
            return self.weights
        if role == "stem_input" and self.activations != FLOAT_BITS:
            return STEM_INPUT_BITS
        return self.activations

    def __str__(self) -> str:
        return f"W{self.weights}A{self.activations}"


FLOAT = BitSpec(FLOAT_BITS, FLOAT_BITS)
