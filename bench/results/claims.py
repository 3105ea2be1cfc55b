"""Claims: published numbers, each with its source, in one CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from vitptq.bench.bits import MIXED
from vitptq.bench.errors import BadInput, Missing, invalid_fields

FOLDER = Path("results") / "claims"
FILE = "claims.csv"
EDITION = "full"
"""The only one that claims are about: an embedded score never stands beside a published one."""
AVERAGE, MIXED_METHOD = " (MP avg)", "(mixed precision; average"
"""How sources that print an average width are marked: at the width, or in the method's name."""
Kind = Literal["original", "reprint", "rerun", "secondary"]
"""Printed by the method's own paper or repository; in another paper's table; run again by somebody; known only through
notes about the source."""


class Claim(BaseModel):
    """One published number. Methods and models are called what the source calls them (`claim_names` maps them)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    model: str
    task: Literal["imagenet", "coco", "ade20k"]
    head: str
    """The detector or segmenter; empty for a classifier."""
    w_bits: str
    a_bits: str
    """A whole number, or what the source prints instead, such as a mean of mixed widths."""
    softmax_bits: str
    """Bits of the attention probabilities, where the source says so."""
    metric: Literal["top1", "box_ap", "mask_ap", "miou"]
    value: float
    """In percent."""
    fp_value: float | None
    """The float score that the same source prints."""
    kind: Kind
    reported_in: str
    arxiv: str
    table: str
    url: str
    """Address of the source; empty where none is known yet, which the leaderboard says."""

    @field_validator("method", "model", "w_bits", "a_bits", "reported_in", "table")
    @classmethod
    def _not_empty(cls, text: str) -> str:
        if text != text.strip() or not text:
            raise ValueError("is empty, or has spaces around it")
        return text

    @field_validator("fp_value", mode="before")
    @classmethod
    def _none_where_empty(cls, text: object) -> object:
        return None if text == "" else text

    @field_validator("value", "fp_value")
    @classmethod
    def _is_percent(cls, value: float | None) -> float | None:
        if value is not None and not 0 <= value <= 100:
            raise ValueError(f"{value} is not a percentage")
        return value

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://\S+", url):
            raise ValueError(f'"{url}" is no address; leave it empty until there is one')
        return url

    @property
    def whole_model(self) -> str:
        """Return the model with the detector or segmenter that it is in."""
        return f"{self.head} {self.model}".strip()

    @property
    def bits(self) -> str | None:
        """Return the bit spec, an average where the source says so; None where the widths are no whole numbers."""
        widths = [width.removesuffix(AVERAGE) for width in (self.w_bits, self.a_bits)]
        if not all(width.isdigit() for width in widths):
            return None
        mixed = self.w_bits.endswith(AVERAGE) or MIXED_METHOD in self.method
        return "W{}A{}".format(*widths) + f"+{MIXED}" * mixed

    def __str__(self) -> str:
        """Say the claim in one line."""
        bits = f"W{self.w_bits}A{self.a_bits}" + (f" softmax {self.softmax_bits}" if self.softmax_bits else "")
        source = f"{self.reported_in}, {self.table} ({self.kind})"
        what = f"{self.task} {self.whole_model} {self.method} {bits} {self.metric}"
        return f"{what} {self.value:.2f}  {source} {self.url}".strip()


def read(folder: Path = FOLDER) -> list[Claim]:
    """Return the claims, every row checked; the first wrong one is an error that names its line."""
    path = folder / FILE
    if not path.is_file():
        raise Missing(f"{path} is not there: run in a clone of the project, or name the folder with --claims")
    try:
        return list(_rows(path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as CSV in UTF-8: {error}") from None


def _rows(path: Path) -> Iterator[Claim]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream)
        if tuple(rows.fieldnames or ()) != tuple(Claim.model_fields):
            raise BadInput(f"{path}, line 1: the columns must be {','.join(Claim.model_fields)}")
        for row in rows:
            if None in row:
                raise BadInput(f"{path}, line {rows.line_num}: more columns than the header; quote what holds a comma")
            try:
                yield Claim.model_validate(row)
            except ValidationError as error:
                raise BadInput(f"{path}, line {rows.line_num}: {invalid_fields(error)}") from None


def repeated(claims: list[Claim]) -> list[Claim]:
    """Return the rows that say what an earlier row says already, from the same source."""
    seen: set[tuple[object, ...]] = set()
    again = []
    for claim in claims:
        key = tuple(claim.model_dump(exclude={"fp_value", "kind"}).values())
        if key in seen:
            again.append(claim)
        seen.add(key)
    return again
