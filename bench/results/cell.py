"""A cell: one thing to measure. Its identity is the hash of its content, never text made for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from vitptq.bench.bits import BitSpec
from vitptq.bench.errors import VitptqError

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every generator accepts: NumPy's takes 32 bits."""
SetSize = Annotated[int, Field(ge=0, lt=2**31)]

Precision = Literal["fp32", "tf32", "bf16", "fp16"]

STANDARD = "standard"
"""The track of the shared protocol; labels name every other."""
FP32: Precision = "fp32"


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


class Cell(BaseModel):
    """(task, edition, model, method + parameters, bits, track, seed), with what pins each of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    edition: str
    data: str
    """Version of the evaluation data."""
    model: str
    checkpoint: str
    """What pins the weights: a sha256, or an exact timm tag."""
    method: str
    source: str
    """Hash of the adapter's source and of the shared code it imports: a changed method is another cell."""
    parameters: dict[str, JsonValue]
    bits: str
    track: str
    seed: Seed
    calibration_size: SetSize
    calibration_list: str
    """Hash of the calibration index list; empty where the method gets no images."""
    precision: Precision = "fp32"
    """Of the products in the evaluation; the protocol's is fp32, and the identity names only another one."""
    run_time: dict[str, JsonValue] = {}
    """Parameters of the method that cannot change the result, such as a memory budget: no part of the identity."""

    @field_validator("bits")
    @classmethod
    def _in_one_spelling(cls, bits: str) -> str:
        try:
            return str(_parsed(bits))
        except VitptqError as error:
            raise ValueError(str(error)) from None

    @cached_property
    def id(self) -> str:
        """Return the identity: sha256 of the canonical JSON."""
        left_out = {"run_time"} if self.precision != FP32 else {"run_time", "precision"}
        return sha256(canonical_json(self.model_dump(mode="json", exclude=left_out)).encode())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Cell:
        """Return a copy with other values, and the identity that they have."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("id", None)
        return copied

    @property
    def bit_spec(self) -> BitSpec:
        """Return the parsed bit spec."""
        return _parsed(self.bits)

    @property
    def is_float(self) -> bool:
        """Tell whether this cell measures the float model."""
        return self.bit_spec.is_float

    @property
    def draw(self) -> str:
        """Name the calibration draw for people: "32 images seed 0", or the seed alone where there are no images."""
        return f"{self.calibration_size} images seed {self.seed}" if self.calibration_size else f"seed {self.seed}"

    def label(self) -> str:
        """Name the cell for people: never used as an identity."""
        return f"{without_draw(vars(self))} {self.draw}"


@cache
def _parsed(bits: str) -> BitSpec:
    return BitSpec.parse(bits)


def without_draw(asked: Mapping[str, Any]) -> str:
    """Name what was asked for, by the names of a cell's fields, but for the calibration draw."""
    track = "" if asked["track"] == STANDARD else f" {asked['track']} track"
    precision = "" if asked["precision"] == FP32 else f" in {asked['precision']}"
    return f"{asked['task']}/{asked['edition']} {asked['model']} {asked['method']} {asked['bits']}{precision}{track}"


def labels(cells: Sequence[Cell]) -> dict[str, str]:
    """Return a name for people by cell id; cells of one label are told apart by the parameters in which they differ."""
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(cell.label(), []).append(cell)
    return {
        cell.id: " ".join([label, *(told_apart(cell, rivals) if len(rivals) > 1 else ())])
        for label, rivals in alike.items()
        for cell in rivals
    }


def told_apart(cell: Cell, rivals: Sequence[Cell]) -> list[str]:
    """Return "name=value" of each parameter of `cell` that has another value, or is absent, in one of `rivals`."""
    values = {name: {canonical_json(c.parameters.get(name)) for c in rivals} for name in sorted(cell.parameters)}
    return [f"{name}={_plain(cell.parameters[name])}" for name in values if len(values[name]) > 1]


def _plain(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
