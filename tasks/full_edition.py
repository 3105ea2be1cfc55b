"""What the full editions share: a data set that a person downloads, local checkpoints, published calibration lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vitptq.bench.contracts.task import Progress
from vitptq.tasks.file_task import FileTask
from vitptq.tasks.locations import checkpoint_root, data_root
from vitptq.tasks.published_lists import SEEDS

Lists = Callable[[int], Sequence[str]]
"""Returns the names of a seed's calibration list."""


class FullTask(FileTask):
    """The real data set; placed before the class that reads its layout."""

    edition: ClassVar[str] = "full"
    data_folder: ClassVar[str]
    """The data set's folder in the folder of the data sets."""

    def __init__(self, *, root: Path | None, checkpoints: Path | None, lists: Lists, **reading: Any) -> None:
        """Use `root` and `checkpoints` in place of `VITPTQ_DATA` and `VITPTQ_CHECKPOINTS`; see the layout's class."""
        super().__init__(**reading)
        self._root = root
        self._checkpoints = checkpoints
        self._lists = lists

    @property
    def folder(self) -> Path:
        """Return the folder of the data set."""
        return (self._root or data_root()) / self.data_folder

    @property
    def checkpoints(self) -> Path:
        """Return the folder of local checkpoints."""
        return checkpoint_root(self._checkpoints, self._root)

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing: a person downloads the data set (`problems` says how)."""

    @property
    def calibration_seeds(self) -> Sequence[int]:
        """Return the seeds that have a published list."""
        return SEEDS

    def calibration_list(self, seed: int) -> Sequence[str]:
        """Return the whole published list of one seed."""
        return self._lists(seed)
