"""The embedded edition of COCO: scenes of digits on photographs, generated here, read by COCO's code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from bench.errors import BadInput, Missing, UnknownName
from bench.protocol import Evidence, ModelCard, Progress, Scene
from tasks import data_root
from tasks.coco import CocoTask
from tasks.detection import pictures
from tasks.mini import material, scene_models, scenes
from tasks.mini.compose_scene import SIDE
from tasks.mini.models import WeightsError

TOLERANCE = 0.3
BATCH = 20


class MiniCoco(CocoTask):
    """500 scenes of unseen digits on unseen photographs, 96 pixels, 10 classes."""

    name: ClassVar[str] = "coco"
    edition: ClassVar[str] = "mini"
    title: ClassVar[str] = "Scenes of digits (embedded): detection and instance segmentation"

    def __init__(
        self,
        *,
        root: Path | None = None,
        counts: scenes.Counts = scenes.STANDARD,
        batch_size: int = BATCH,
        **reading: Any,
    ) -> None:
        """Use `root` in place of `VITPTQ_DATA`; other `counts` make a data set that no published score belongs to."""
        super().__init__(images=counts.val, scale=(SIDE, SIDE), size=(SIDE, SIDE), batch_size=batch_size, **reading)
        self._root = root
        self._counts = counts

    @property
    def data_version(self) -> str:
        """Pin the evaluation data by the fingerprint of its decoded pixels and annotations."""
        standard = self._counts == scenes.STANDARD
        return f"mini-{scenes.FINGERPRINT}" if standard else f"mini-{self._counts.train}-{self._counts.val}"

    @property
    def generated(self) -> Path:
        """Return the generated folder, which has both layouts; another version of the data is another folder."""
        return (self._root or data_root()) / "mini" / f"scenes-{self.data_version.removeprefix('mini-')[:12]}"

    @property
    def folder(self) -> Path:
        """Return the part in COCO's layout."""
        return self.generated / scenes.COCO

    @property
    def missing_data(self) -> str:
        """Say how to generate the data."""
        return f"The embedded scenes are not in {self.generated} yet: vitptq run generates them before the first cell"

    @property
    def calibration_source(self) -> str:
        """Name the published lists."""
        return "tasks/mini/scenes_calibration.json"

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the digits."""
        return scenes.THING_CLASSES

    def models(self) -> Mapping[str, ModelCard]:
        """Return the detectors whose weights are published."""
        return {name: _card(name) for name in _detectors() if _published(name)}

    def card(self, model: str) -> ModelCard:
        """Return the card of `model`; one that is defined but not trained yet is Missing, not unknown."""
        if model not in _detectors():
            raise UnknownName("model", model, _detectors())
        if not _published(model):
            raise Missing(self.missing_checkpoint(model))
        return _card(model)

    def prepare(self, progress: Progress | None = None) -> None:
        """Generate the scenes where they are not yet."""
        try:
            scenes.generate(self.generated, counts=self._counts, progress=progress)
        except scenes.DataError as error:
            raise BadInput(str(error)) from error

    def forget(self) -> None:
        """Drop the decoded images and what they are made from."""
        super().forget()
        material.forget()

    def image_folders(self) -> Sequence[Path]:
        """Return the generated folder and those of the material."""
        return (self.generated, *material.sources())

    def scenes(self, found: Evidence) -> Sequence[Scene]:
        """Return a few scenes with what the model found in them."""
        self._check(found)
        return pictures.scenes(found, self.val, self.classes)

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the published numbers of one seed's training scenes; another data set has lists of its own."""
        standard = self._counts == scenes.STANDARD
        lists = (
            _published_lists(scenes.CALIBRATION_LISTS) if standard else scenes.calibration_lists(counts=self._counts)
        )
        if str(seed) not in lists:
            raise BadInput(f"no calibration list is published for seed {seed}; published: {', '.join(sorted(lists))}")
        return [str(number) for number in lists[str(seed)]]

    def calibration_files(self, names: Sequence[str]) -> list[Path]:
        """Return the training scene of each number."""
        return [self.folder / scenes.coco_image("train", int(name)) for name in names]

    def config(self, model: str) -> Mapping[str, Any]:
        """Return the config that the weights were trained with."""
        self.card(model)
        config: Mapping[str, Any] = scene_models.SCENE_MODELS[model].config()
        return config

    def checkpoint_file(self, model: str) -> Path:
        """Return the shipped weights."""
        return scene_models.SCENE_MODELS[model].weights

    def missing_checkpoint(self, model: str) -> str:
        """Say where the weights should be."""
        return f"{self.checkpoint_file(model)} is missing: restore it from the repository"

    def float_model(self, model: str) -> nn.Module:
        """Build the model with the shipped weights; a file with another hash is refused."""
        try:
            return scene_models.load(model)
        except WeightsError as error:
            kind = BadInput if self.checkpoint_file(model).is_file() else Missing
            raise kind(str(error)) from error


def _detectors() -> list[str]:
    return [name for name, entry in scene_models.SCENE_MODELS.items() if entry.task == MiniCoco.name]


def _published(name: str) -> bool:
    try:
        return bool(scene_models.facts(name))
    except WeightsError:
        return False


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
