"""Bit specifications such as W4A4, and the operand map of the standard track."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vitptq.bench.errors import BadInput, UnknownName, brief

Role = Literal["weight", "input", "gelu", "stem_input", "query", "key", "value", "softmax"]
"""What a tensor is to the product that reads it. `stem_input` is the image at the patch embedding, `gelu` what leaves a
GELU, `softmax` the attention probabilities."""

FLOAT_BITS = 32
STEM_INPUT_BITS = 8
MIXED = "mixed"
MOST_MIXED_BITS = 10
"""The widest that an operand may be where the bit spec is an average."""
AVERAGE_SLACK = 0.02
"""By how many bits an average may exceed its spec: how large activations are beside each other depends on the image."""

PARTS: dict[str, tuple[str, ...]] = {
    "neck": ("neck",),
    "heads": ("rpn_head", "roi_head", "decode_head", "auxiliary_head"),
}
"""Parts of a detector or segmenter that stay in float unless a bit spec names them, with OpenMMLab's names of their
modules. Quantising the backbone alone is the convention of the field."""


@dataclass(frozen=True, slots=True)
class BitSpec:
    """Nominal widths of weights and activations, and which parts of a detector or segmenter join the backbone.

    `mixed`: every operand has a width of its own, and the nominal ones are averages, over the values of all weights and
    over those of all activations but the image.

    >>> BitSpec.parse("W4A8")
    BitSpec(weights=4, activations=8, parts=(), mixed=False)
    >>> str(BitSpec(3, 3)), BitSpec(4, 4).width("stem_input")
    ('W3A3', 8)
    >>> str(BitSpec.parse("W4A4+heads+neck")), BitSpec.parse("W4A4+neck").leaves("roi_head.bbox_head.fc_cls")
    ('W4A4+neck+heads', True)
    >>> str(BitSpec.parse("W4A4+neck+mixed")), BitSpec(4, 4, mixed=True).most("weight")
    ('W4A4+mixed+neck', 10)
    """

    weights: int
    activations: int
    parts: tuple[str, ...] = ()
    mixed: bool = False

    def __post_init__(self) -> None:
        for what, bits in (("weights", self.weights), ("activations", self.activations)):
            if bits != FLOAT_BITS and not 2 <= bits <= 8:
                raise BadInput(f"{bits} bits for {what}: a width is 2 to 8, or {FLOAT_BITS} for float")

        unknown = [part for part in self.parts if part not in PARTS]
        if unknown:
            raise UnknownName("part of a model", unknown[0], PARTS)
        # one spelling, because the text is part of a cell's identity
        object.__setattr__(self, "parts", tuple(part for part in PARTS if part in self.parts))

    @classmethod
    def parse(cls, text: str) -> BitSpec:
        """Read "W4A4" or "W4A4+neck+heads"; the widths are 2 to 8, or 32 for float, in any case."""
        match = re.fullmatch(r"w(\d{1,9})a(\d{1,9})((?:\+[a-z]+)*)", text, re.IGNORECASE | re.ASCII)
        if match is None:
            raise BadInput(
                f'bit spec "{brief(text)}" is not of the form W<bits>A<bits>[+mixed][+part...], '
                "for example W4A4, W4A4+mixed or W4A4+neck"
            )
        words = match[3].lower().split("+")[1:]
        parts = tuple(word for word in words if word != MIXED)
        return cls(int(match[1]), int(match[2]), parts, mixed=MIXED in words)

    @property
    def is_float(self) -> bool:
        """Tell whether nothing is quantised."""
        return self.weights == FLOAT_BITS and self.activations == FLOAT_BITS

    def leaves(self, module: str) -> bool:
        """Tell whether a module (by its dotted name) belongs to a part that stays in float."""
        top = module.partition(".")[0]
        return any(top in names for part, names in PARTS.items() if part not in self.parts)

    def width(self, role: Role) -> int:
        """Return the nominal bits of an operand: the image enters the patch embedding at 8 bits, whatever the spec."""
        if role == "weight":
            return self.weights
        if role == "stem_input" and self.activations != FLOAT_BITS:
            return STEM_INPUT_BITS
        return self.activations

    def most(self, role: Role) -> int:
        """Return the bits that an operand may have: its nominal width, more where that is an average."""
        nominal = self.width(role)
        return MOST_MIXED_BITS if self.mixed and role != "stem_input" and nominal != FLOAT_BITS else nominal

    def __str__(self) -> str:
        return "+".join((f"W{self.weights}A{self.activations}", *[MIXED] * self.mixed, *self.parts))


FLOAT = BitSpec(FLOAT_BITS, FLOAT_BITS)
