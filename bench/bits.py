"""Bit specifications such as W4A4, with what low-rank factors take away, and the operand map of the standard track."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
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
FACTORS = "lowrank"
BRANCH = "branch"
BRANCH_BITS = 16
"""Of the numbers that a side branch computes with."""
MOST_REMOVED = 95

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
    over those of all activations but the image. `removed`: weights are products of low-rank factors, so that
    "W32A32+lowrank60" has 60 % fewer parameters in float. `branch`: float side branches stand beside quantised blocks.

    >>> BitSpec.parse("W4A8")
    BitSpec(weights=4, activations=8, parts=(), mixed=False, removed=0, branch=False)
    >>> str(BitSpec(3, 3)), BitSpec(4, 4).width("stem_input")
    ('W3A3', 8)
    >>> str(BitSpec.parse("W4A4+heads+neck")), BitSpec.parse("W4A4+neck").leaves("roi_head.bbox_head.fc_cls")
    ('W4A4+neck+heads', True)
    >>> str(BitSpec.parse("W4A4+neck+mixed")), BitSpec(4, 4, mixed=True).most("weight")
    ('W4A4+mixed+neck', 10)
    >>> spec = BitSpec.parse("W8A8+lowrank60")
    >>> spec.removed, str(spec.dense), spec.is_float
    (60, 'W8A8', False)
    >>> spec = BitSpec.parse("w4a4+branch")
    >>> str(spec), str(spec.plain), spec.own_category
    ('W4A4+branch', 'W4A4', True)
    """

    weights: int
    activations: int
    parts: tuple[str, ...] = ()
    mixed: bool = False
    removed: int = 0
    """Percent of the parameters that low-rank factors take away; 0: there are no factors."""
    branch: bool = False
    """Whether side branches in half precision may make up for what quantised blocks lose."""

    def __post_init__(self) -> None:
        for what, bits in (("weights", self.weights), ("activations", self.activations)):
            if bits != FLOAT_BITS and not 2 <= bits <= 8:
                raise BadInput(f"{bits} bits for {what}: a width is 2 to 8, or {FLOAT_BITS} for float")

        if not 0 <= self.removed <= MOST_REMOVED:
            raise BadInput(f"{self.removed} % fewer parameters: low-rank factors take away 1 to {MOST_REMOVED} %")
        if self.branch and (self.removed or self.weights == self.activations == FLOAT_BITS):
            raise BadInput(f"float side branches stand beside quantised blocks, not beside {self.plain}")
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown:
            raise UnknownName("part of a model", unknown[0], PARTS)
        # one spelling, because the text is part of a cell's identity
        object.__setattr__(self, "parts", tuple(part for part in PARTS if part in self.parts))

    @classmethod
    def parse(cls, text: str) -> BitSpec:
        """Read "W4A4", "W4A4+neck+heads" or "W32A32+lowrank60"; the widths are 2 to 8, or 32 for float, in any case."""
        match = re.fullmatch(r"w(\d{1,9})a(\d{1,9})((?:\+[a-z]+\d{0,9})*)", text, re.IGNORECASE | re.ASCII)
        if match is None:
            raise BadInput(
                f'bit spec "{brief(text)}" is not of the form W<bits>A<bits>[+mixed][+{BRANCH}][+{FACTORS}<percent>]'
                f"[+part...], for example W4A4, W4A4+mixed, W4A4+{BRANCH}, W32A32+{FACTORS}60 or W4A4+neck"
            )
        words = match[3].lower().split("+")[1:]
        factors = [word for word in words if re.fullmatch(rf"{FACTORS}\d+", word)]
        removed = int(factors[0].removeprefix(FACTORS)) if factors else 0
        if len(factors) > 1 or (factors and not removed):
            raise BadInput(f'bit spec "{brief(text)}": name one percentage above 0 behind +{FACTORS}')
        parts = tuple(word for word in words if word not in (MIXED, BRANCH, *factors))
        return cls(int(match[1]), int(match[2]), parts, mixed=MIXED in words, removed=removed, branch=BRANCH in words)

    @property
    def is_float(self) -> bool:
        """Tell whether nothing is quantised, nor in factors: the float model as it is."""
        return self.weights == FLOAT_BITS and self.activations == FLOAT_BITS and not self.removed

    @property
    def dense(self) -> BitSpec:
        """Return the same widths and parts without low-rank factors."""
        return replace(self, removed=0)

    @property
    def plain(self) -> BitSpec:
        """Return the same without side branches: what the quantised part of the model has."""
        return replace(self, branch=False)

    @property
    def category(self) -> str:
        """Return the category of methods that this spec is for alone; empty where it is for all others."""
        return "low-rank" if self.removed else "float-branch" if self.branch else ""

    @property
    def own_category(self) -> bool:
        """Tell whether models of this spec compute other products than the float model, and stand among themselves."""
        return bool(self.category)

    def leaves(self, module: str) -> bool:
        """Tell whether a module (by its dotted name) belongs to a part that stays in float."""
        part = part_of(module)
        return bool(part) and part not in self.parts

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
        factors = (f"{FACTORS}{self.removed}",) if self.removed else ()
        words = (*[MIXED] * self.mixed, *[BRANCH] * self.branch, *factors, *self.parts)
        return "+".join((f"W{self.weights}A{self.activations}", *words))


def part_of(name: str) -> str:
    """Return the part of a model that a module or parameter belongs to; empty where that is none of `PARTS`.

    >>> part_of("roi_head.bbox_head.fc_cls.weight"), part_of("blocks.0.mlp.fc1")
    ('heads', '')
    """
    top = name.partition(".")[0]
    return next((part for part, names in PARTS.items() if top in names), "")


FLOAT = BitSpec(FLOAT_BITS, FLOAT_BITS)
