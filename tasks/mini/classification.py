"""The embedded edition of ImageNet classification: digits on photographs, generated here, read by ImageNet's code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from torch import nn

from vitptq.bench.contracts.task import ModelCard
from vitptq.bench.results.cell import canonical_json, sha256
from vitptq.tasks import family_groups
from vitptq.tasks.classification.task import ClassificationTask
from vitptq.tasks.mini import data, models
from vitptq.tasks.mini.edition import TOLERANCE, MiniTask
from vitptq.tasks.mini.material import CLASSES


class MiniImageNet(MiniTask, ClassificationTask):
    """3,000 images of unseen digits on unseen photographs, 32 pixels, 10 classes."""

    name: ClassVar[str] = "imagenet"
    title: ClassVar[str] = "Digits on photographs (embedded)"
    generator: ClassVar[ModuleType] = data
    kind: ClassVar[str] = "classification"

    def __init__(self, *, root: Path | None = None, counts: data.Counts = data.STANDARD, **reading: Any) -> None:
        """Use `root` in place of `VITPTQ_DATA`; other `counts` make a data set that no published score belongs to."""
        super().__init__(classes=CLASSES, images=counts.val, **reading)
        self._root, self._counts = root, counts

    @property
    def folder(self) -> Path:
        """Return the generated folder."""
        return self.generated

    @property
    def entries(self) -> Mapping[str, models.MiniModel]:
        """Return the models."""
        return models.MODELS

    def entry_card(self, model: str) -> ModelCard:
        """Return the card of a published model."""
        entry = models.MODELS[model]
        return ModelCard(
            name=model,
            family=entry.family,
            checkpoint=_checkpoint(entry),
            reference={"top1": entry.float_top1},
            tolerance=TOLERANCE,
            source=f"tasks/mini/weights/{entry.trained_as}.json",
            note="LayerNorm channels widened, same function as the plain model" if entry.outlier else "",
            groups=family_groups(entry.family),
        )

    def entry_model(self, model: str) -> nn.Module:
        """Build the model with its weights."""
        return models.load(model)

    def data_config(self, model: str) -> dict[str, Any]:
        """Return the one data config of the embedded models."""
        self.card(model)
        return models.DATA_CONFIG


def _checkpoint(entry: models.MiniModel) -> str:
    """Return the weights' hash, with the plan's for a widened model: it is other weights after loading."""
    if not entry.outlier:
        return entry.sha256
    return f"{entry.sha256}:outlier-{sha256(canonical_json(entry.plan).encode())[:16]}"
