"""The embedded edition of ADE20K: scenes of digits on photographs, generated here, read by ADE20K's code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from bench.errors import BadInput, Missing, UnknownName
from bench.protocol import ModelCard, Progress
from tasks import data_root
from tasks.mini import compose, material, scene_models, scenes
from tasks.mini.compose_scene import SIDE
from tasks.mini.models import WeightsError
from tasks.segmentation.task import Ade20kTask, Config

TOLERANCE = 0.3
BATCH = 20
PICTURES = 6


class MiniAde20k(Ade20kTask):
    """500 scenes of unseen digits on unseen photographs, 96 pixels, 11 classes: the photograph and ten digits."""

    name: ClassVar[str] = "ade20k"
    edition: ClassVar[str] = "mini"
    title: ClassVar[str] = "Scenes of digits (embedded): semantic segmentation"

    def __init__(
        self,
        *,
        root: Path | None = None,
        counts: scenes.Counts = scenes.STANDARD,
        batch_size: int = BATCH,
        **reading: Any,
    ) -> None:
        """Use `root` in place of `VITPTQ_DATA`; other `counts` make a data set that no published score belongs to."""
        super().__init__(
            classes=len(scenes.SEGMENT_CLASSES),
            images=counts.val,
            batch_size=batch_size,
            pictures=PICTURES,
            **reading,
        )
        self._root = root
        self._counts = counts

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by the fingerprint of its decoded pixels and label maps."""
        standard = self._counts == scenes.STANDARD
        return f"mini-{scenes.FINGERPRINT}" if standard else f"mini-{self._counts.train}-{self._counts.val}"

    @property
    def generated(self) -> Path:
        """Return the generated folder, which has COCO's layout too; another version of the data is another folder."""
        return (self._root or data_root()) / "mini" / f"scenes-{self.data_version.removeprefix('mini-')[:12]}"

    @property
    def folder(self) -> Path:
        """Return the part in ADE20K's layout."""
        return self.generated / scenes.ADE

    @property
    def missing_data(self) -> str:
        """Say how to generate the data."""
        return f"The embedded scenes are not in {self.generated} yet: vitptq run generates them before the first cell"

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return "tasks/mini/scenes_calibration.json"

    def models(self) -> Mapping[str, ModelCard]:
        """Return the segmenters whose weights are published."""
        return {name: _card(name) for name in _segmenters() if _published(name)}

    def card(self, model: str) -> ModelCard:
        """Return the card of `model`; one that is defined but not trained yet is Missing, not unknown."""
        if model not in _segmenters():
            raise UnknownName("model", model, _segmenters())
        if not _published(model):
            raise Missing(_missing_weights(model))
        return _card(model)

    def prepare(self, progress: Progress | None = None) -> None:
        """Generate the scenes where they are not yet."""
        try:
            scenes.generate(self.generated, counts=self._counts, progress=progress)
        except scenes.DataError as error:
            raise BadInput(str(error)) from error

    def forget(self) -> None:
        """Drop the decoded scenes and the material of the generator."""
        super().forget()
        material.forget()
        compose.photographs_at_scales.cache_clear()

    def image_folders(self) -> Sequence[Path]:
        """Return the generated folder and those of the material."""
        return (self.generated, *material.sources())

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the published numbers of one seed's training scenes."""
        lists = _published_lists(scenes.CALIBRATION_LISTS)
        if str(seed) not in lists:
            raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(sorted(lists))}")
        return [str(number) for number in lists[str(seed)]]

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the training scene of each number."""
        return [self.folder / scenes.ade_image("train", int(name)) for name in names]

    def model_config(self, model: str) -> Config:
        """Return the config that the weights were trained with."""
        self.card(model)
        return scene_models.SCENE_MODELS[model].config()

    def dataset_config(self, model: str) -> Config:
        """Return mmseg's data set with the scenes' classes; its pipeline is ADE20K's without the resizing."""
        return {
            "type": "BaseSegDataset",
            "metainfo": {"classes": scenes.SEGMENT_CLASSES},
            "reduce_zero_label": True,
            "pipeline": [
                {"type": "LoadImageFromFile"},
                {"type": "LoadAnnotations", "reduce_zero_label": True},
                {"type": "PackSegInputs"},
            ],
        }

    def input_size(self, model: str) -> tuple[int, int]:
        """Return the scenes' size."""
        return SIDE, SIDE

    def checkpoint_file(self, model: str) -> Path:
        """Return the shipped weights."""
        return scene_models.SCENE_MODELS[model].weights

    def checkpoint_problems(self, model: str) -> list[str]:
        """Say where shipped weights are missing."""
        return [] if self.checkpoint_file(model).is_file() else [_missing_weights(model)]

    def float_model(self, model: str) -> nn.Module:
        """Build the model with the shipped weights; a file with another hash is refused."""
        try:
            return scene_models.load(model)
        except WeightsError as error:
            kind = BadInput if self.checkpoint_file(model).is_file() else Missing
            raise kind(str(error)) from error


def _segmenters() -> list[str]:
    return [name for name, entry in scene_models.SCENE_MODELS.items() if entry.task == MiniAde20k.name]


def _published(name: str) -> bool:
    return scene_models.SCENE_MODELS[name].weights.is_file()


def _missing_weights(name: str) -> str:
    return f"{scene_models.SCENE_MODELS[name].weights} is missing: restore it from the repository"


def _card(name: str) -> ModelCard:
    entry = scene_models.SCENE_MODELS[name]
    return ModelCard(
        name=name,
        family=entry.family,
        checkpoint=entry.sha256,
        reference=entry.scores,
        tolerance=TOLERANCE,
        source=f"tasks/mini/weights/{entry.weights.stem}.json",
    )


@cache
def _published_lists(path: Path) -> dict[str, list[int]]:
    if not path.is_file():
        raise Missing(f"{path} is missing: restore it from the repository")
    lists: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8"))["lists"]
    return lists
