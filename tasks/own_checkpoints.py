"""Checkpoints of a laboratory's own, described in `checkpoints.toml` beside their files: no Python is needed.

    [[imagenet]]
    name = "our_deit_small"
    architecture = "deit_small_patch16_224"     # a model of timm
    file = "our_deit_small.pth"
    sha256 = "…"                                # of the file, 64 hex digits
    reference = { top1 = 80.3 }                 # the float score that it must reproduce, in percent

    [[coco]]                                    # and [[ade20k]]
    name = "our_mask_rcnn"
    config = "our_mask_rcnn.py"                 # a file beside this one, or the name of one that mmdet or mmseg brings
    file = "our_mask_rcnn.pth"
    sha256 = "…"
    reference = { box_ap = 45.1, mask_ap = 41.0 }

Beside these, an entry may have `tolerance` (points), `family`, `note`, and for ImageNet `data_config` with whatever
differs from the architecture's own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.errors import BadInput, invalid_fields
from vitptq.tasks.families import family_groups

TASKS = ("imagenet", "coco", "ade20k")
FAMILIES = ("swin", "mobilevitv2", "mobilevit", "efficientformerv2", "efficientformer", "deit", "vit")
"""Words that name a family in an architecture or a configuration, the longer ones first."""
OTHER = "other"
WRAPPER = "module."
"""What torch's data-parallel training puts in front of every key."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=100)]


class OwnCheckpoint(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    architecture: str = ""
    config: str = ""
    file: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    reference: Annotated[dict[str, float], Field(min_length=1)]
    tolerance: Annotated[float, Field(ge=0)] = 0.1
    family: str = ""
    note: str = ""
    data_config: dict[str, Any] = {}

    def card(self) -> ModelCard:
        """Return the card of the model; its identity is the file's content."""
        family = self.family or _family(self.architecture or self.config)
        note = f"own checkpoint, {self.architecture or self.config}" + (f"; {self.note}" if self.note else "")
        return ModelCard(
            name=self.name, family=family, checkpoint=self.sha256.lower(), reference=self.reference,
            tolerance=self.tolerance, source="checkpoints.toml", note=note, groups=family_groups(family),
        )  # fmt: skip


_Entries: TypeAdapter[dict[str, list[OwnCheckpoint]]] = TypeAdapter(dict[str, list[OwnCheckpoint]])


def read(path: Path, task: str, published: Collection[str], metric: str) -> Mapping[str, OwnCheckpoint]:
    """Return the entries of one task by name; none where the file is not there.

    No entry may have the name of a published model; `metric` is the score that each must have a reference for.
    """
    try:
        stat = path.stat()
    except OSError:
        return {}
    entries = _read(path, stat.st_mtime_ns, stat.st_size).get(task, [])
    for entry in entries:
        where = f'{path}, [[{task}]] "{entry.name}"'
        if entry.name in published:
            raise BadInput(f"{where}: a published model has this name; give your checkpoint one of its own")
        if metric not in entry.reference:
            raise BadInput(f"{where}: reference has no {metric}, which the float gate compares; add it")
        wanted, other = ("architecture", "config") if task == "imagenet" else ("config", "architecture")
        if not getattr(entry, wanted) or getattr(entry, other):
            raise BadInput(f"{where}: {task} needs {wanted}, and no {other}")
    names = [entry.name for entry in entries]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f'{path}: two entries of [[{task}]] are called "{doubled}"; rename one')
    return {entry.name: entry for entry in entries}


def without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without what data-parallel training put in front of every key."""
    if not all(key.startswith(WRAPPER) for key in state):
        return state
    return {key.removeprefix(WRAPPER): value for key, value in state.items()}


@lru_cache(maxsize=8)
def _read(path: Path, _mtime: int, _size: int) -> dict[str, list[OwnCheckpoint]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path} cannot be read as TOML ({error}): see docs/tasks.md for an example") from error
    if unknown := sorted(set(content) - set(TASKS)):
        raise BadInput(f"{path} has [[{unknown[0]}]]; known: {', '.join(f'[[{task}]]' for task in TASKS)}")
    try:
        return _Entries.validate_python(content)
    except ValidationError as error:
        problems = invalid_fields(error)
        raise BadInput(f"{path}: {problems}; entries are counted from 0, docs/tasks.md has an example") from None


def _family(text: str) -> str:
    words = re.split(r"[^a-z0-9]+", text.lower())
    found = next((family for family in FAMILIES if family in words), OTHER)
    return "vit" if found == "deit" else found
