"""The embedded edition of ImageNet classification: digits on photographs, generated here, read by ImageNet's code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from bench.cell import canonical_json, sha256
from bench.errors import BadInput, Missing, UnknownName
from bench.protocol import ModelCard, Progress
from tasks import data_root, family_groups
from tasks.classification import ClassificationTask
from tasks.mini import compose, data, material, models
from tasks.mini.material import CLASSES

TOLERANCE = 0.3


class MiniImageNet(ClassificationTask):
    """3,000 images of unseen digits on unseen photographs, 32 pixels, 10 classes."""

    name: ClassVar[str] = "imagenet"
    edition: ClassVar[str] = "mini"
    title: ClassVar[str] = "Digits on photographs (embedded)"

    def __init__(self, *, root: Path | None = None, counts: data.Counts = data.STANDARD, **reading: Any) -> None:
        """Use `root` in place of `VITPTQ_DATA`; other `counts` make a data set that no published score belongs to."""
        super().__init__(classes=CLASSES, images=counts.val, **reading)
        self._root = root
        self._counts = counts

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by the fingerprint of its decoded pixels."""
        standard = self._counts == data.STANDARD
        return f"mini-{data.FINGERPRINT}" if standard else f"mini-{self._counts.train}-{self._counts.val}"

    @property
    def folder(self) -> Path:
        """Return the generated folder; another version of the data is another folder."""
        return (self._root or data_root()) / "mini" / f"classification-{self.data_version.removeprefix('mini-')[:12]}"

    @property
    def missing_data(self) -> str:
        """Say how to generate the data."""
        return f"The embedded data is not in {self.folder} yet: vitptq run generates it before the first cell"

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return "tasks/mini/calibration.json"

    def models(self) -> Mapping[str, ModelCard]:
        """Return the models whose weights are published."""
        return {name: _card(entry) for name, entry in models.MODELS.items() if _published(entry)}

    def card(self, model: str) -> ModelCard:
        """Return the card of `model`; one that is defined but not trained yet is Missing, not unknown."""
        if model not in models.MODELS:
            raise UnknownName("model", model, models.MODELS)
        try:
            return _card(models.MODELS[model])
        except models.WeightsError as error:
            raise Missing(str(error)) from error

    def prepare(self, progress: Progress | None = None) -> None:
        """Generate the data where it is not yet."""
        try:
            data.generate(self.folder, counts=self._counts, progress=progress)
        except data.DataError as error:
            raise BadInput(str(error)) from error

    def forget(self) -> None:
        """Drop the decoded images and the material of the generator."""
        super().forget()
        material.forget()
        compose.photographs_at_scales.cache_clear()

    def image_folders(self) -> Sequence[Path]:
        """Return the generated folder and those of the material."""
        return (self.folder, *material.sources())

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the published names of one seed, relative to the data set."""
        lists = _published_lists(data.CALIBRATION_LISTS)
        if str(seed) not in lists:
            raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(sorted(lists))}")
        return lists[str(seed)]

    def data_config(self, model: str) -> dict[str, Any]:
        """Return the one data config of the embedded models."""
        self.card(model)
        return models.DATA_CONFIG

    def checkpoint_file(self, model: str) -> Path:
        """Return the shipped weights."""
        self.card(model)
        return models.MODELS[model].weights

    def checkpoint_problems(self, model: str) -> list[str]:
        """Say where shipped weights are missing."""
        file = self.checkpoint_file(model)
        return [] if file.is_file() else [f"{file} is missing: restore it from the repository"]

    def float_model(self, model: str) -> nn.Module:
        """Build the model with the shipped weights; a file with another hash is refused."""
        try:
            return models.load(model)
        except models.WeightsError as error:
            kind = BadInput if models.MODELS[model].weights.is_file() else Missing
            raise kind(str(error)) from error


def _published(entry: models.MiniModel) -> bool:
    return (models.WEIGHTS / f"{entry.trained_as}.json").is_file()


def _card(entry: models.MiniModel) -> ModelCard:
    return ModelCard(
        name=entry.name,
        family=entry.family,
        checkpoint=_checkpoint(entry),
        reference={"top1": entry.float_top1},
        tolerance=TOLERANCE,
        source=f"tasks/mini/weights/{entry.trained_as}.json",
        note="LayerNorm channels widened, same function as the plain model" if entry.outlier else "",
        groups=family_groups(entry.family),
    )


def _checkpoint(entry: models.MiniModel) -> str:
    """Return the weights' hash, with the plan's for a widened model: it is other weights after loading."""
    if not entry.outlier:
        return entry.sha256
    return f"{entry.sha256}:outlier-{sha256(canonical_json(entry.plan).encode())[:16]}"


@cache
def _published_lists(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise Missing(f"{path} is missing: restore it from the repository")
    lists: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))["lists"]
    return lists
