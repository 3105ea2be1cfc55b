"""The embedded edition of ImageNet classification: digits on photographs, generated here, read by ImageNet's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from vitptq.tasks.classification.task import ClassificationTask
from vitptq.tasks.mini.data import digit_images
from vitptq.tasks.mini.data.generated import GeneratedData
from vitptq.tasks.mini.data.material import CLASSES
from vitptq.tasks.mini.edition import MiniTask
from vitptq.tasks.mini.models.classifiers import CLASSIFIERS, DATA_CONFIG
from vitptq.tasks.mini.models.pretrained import PRETRAINED, PretrainedClassifier
from vitptq.tasks.mini.models.shipped import ShippedModel


class MiniImageNet(MiniTask, ClassificationTask):
    """3,000 images of unseen digits on unseen photographs, 32 pixels (enlarged for pretrained models), 10 classes."""

    name: ClassVar[str] = "imagenet"
    title: ClassVar[str] = "Digits on photographs (embedded)"
    data: ClassVar[GeneratedData] = digit_images.DATA
    true_labels: ClassVar[str] = "394eac9939635746761226b6041ef7572b8046418370620ec4fcae41fa26300a"

    def __init__(self, **options: Any) -> None:
        """Take the options of MiniTask and FileTask."""
        super().__init__(classes=CLASSES, **options)

    @property
    def entries(self) -> Mapping[str, ShippedModel]:
        """Return the models trained here and the pretrained ones."""
        return {**CLASSIFIERS, **PRETRAINED}

    @property
    def class_names(self) -> Sequence[str]:
        """Return the names of the generated class folders."""
        return digit_images.CLASS_DIRECTORIES

    def data_config(self, model: str) -> dict[str, Any]:
        """Return the data config that all models trained here share, or a pretrained model's own."""
        self.card(model)
        entry = self.entries[model]
        return entry.data_config if isinstance(entry, PretrainedClassifier) else DATA_CONFIG
