"""What detection and segmentation share: models, checkpoints and data sets of OpenMMLab's libraries.

The libraries take many seconds to import, so each function imports what it needs when it is called, and importing this
module costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vitptq.bench.contracts.method import InputSpec
from vitptq.bench.errors import BadInput, Missing, VitptqError
from vitptq.tasks.checkpoints import first_line, first_problem, sha256_of

Scope = Literal["mmdet", "mmseg"]
Item = dict[str, Any]
"""What a library's test pipeline returns for one image: `inputs`, uint8 (3, H, W), and its `data_samples`."""

INSTALL = "install it with: python tasks/openmmlab/install_mmcv.py (after pip install -e '.[openmmlab]')"
JPEG, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG, PNG_END = b"\x89PNG", b"IEND"
TAIL_BYTES = 1024  # some cameras write a few bytes behind the end of the picture


def problems() -> list[str]:
    """Say in one sentence what of OpenMMLab is not installed; imports nothing slow."""
    absent = [name for name in ("mmengine", "mmcv", "mmdet", "mmseg") if importlib.util.find_spec(name) is None]
    if absent:
        return [f"{', '.join(absent)} cannot be imported, detection and segmentation need it: {INSTALL}"]
    if importlib.util.find_spec("mmcv._ext") is None:
        return [f"mmcv was built without its compiled operators (no mmcv._ext), detection needs them: {INSTALL}"]
    return []


@cache
def require(scope: Scope) -> None:
    """Import the library and what it builds on, or raise Missing with the next step."""
    for problem in problems():
        raise Missing(problem)
    for name in ("mmcv.ops", f"{scope}.models", f"{scope}.datasets"):
        try:
            with redirect_stdout(StringIO()):  # mmdet prints which optional packages it does without
                importlib.import_module(name)
        except ImportError as error:
            raise Missing(f"{name} cannot be imported ({error}): {INSTALL}") from error


def build(config: Mapping[str, Any], scope: Scope) -> nn.Module:
    """Return the float model of an OpenMMLab model config, in eval mode, with whatever weights torch gives it.

    `init_cfg` and `pretrained` are dropped: nothing is downloaded. The checkpoint comes from `load_checkpoint`.
    """
    with library(scope) as registry, warnings.catch_warnings():
        # mmseg's loss advises to set an argument of training
        warnings.filterwarnings("ignore", message=".*avg_non_ignore")
        model: nn.Module = registry.MODELS.build(_model_config(config))
    model.eval()  # in a line of its own: the libraries' backbones return nothing from it
    return model


def preprocessor(config: Mapping[str, Any], scope: Scope, device: torch.device) -> Any:
    """Return the data preprocessor of a model config alone (normalises, pads, stacks), a module on the device."""
    with library(scope) as registry:
        found = registry.MODELS.build(_model_config(config["data_preprocessor"]))
    return found.to(device).eval()


def dataset(config: Mapping[str, Any], scope: Scope) -> Any:
    """Return the library's data set of a config, its annotations read."""
    with library(scope) as registry, redirect_stdout(StringIO()):  # pycocotools prints its progress
        return registry.DATASETS.build(deepcopy(dict(config)))


class ImageList:
    """Listed image files behind a library's test pipeline, with the two methods of its data sets that `items` uses."""

    def __init__(self, files: Sequence[Path], pipeline: Sequence[Mapping[str, Any]], scope: Scope) -> None:
        """Read nothing yet."""
        with library(scope):
            from mmengine.dataset import Compose

            self._steps = Compose([dict(step) for step in pipeline])
        self._files = [str(file) for file in files]

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return what the pipeline starts from."""
        return {"img_path": self._files[index], "img_id": index}

    def __getitem__(self, index: int) -> Item:
        item: Item = self._steps(self.get_data_info(index))
        return item


@contextmanager
def library(scope: Scope) -> Iterator[Any]:
    """Yield `<scope>.registry`, names without a prefix meaning this library's; both libraries can be used in turn."""
    require(scope)
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(scope):
        yield importlib.import_module(f"{scope}.registry")


def load_checkpoint(
    model: nn.Module,
    path: Path,
    digest: str | None,
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Load weights into `model` with strict keys.

    `digest` is the file's sha256, or its first hex digits: OpenMMLab puts eight of them into its file names. None is
    for a file whose hash nobody has published. `convert` renames keys of other code bases.
    """
    found = sha256_of(path)
    if digest is not None and (len(digest) < 8 or not found.startswith(digest.lower())):
        raise BadInput(f"{path} has sha256 {found[:12]}..., its model is pinned to {digest[:12]}...: download it again")
    state = read_state(path)
    try:
        model.load_state_dict(convert(state) if convert else state, strict=True)
    except (RuntimeError, KeyError) as error:
        raise BadInput(f"{path} is not a checkpoint of this model: {first_problem(error)}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a PyTorch checkpoint; no code in it is run."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as a checkpoint ({first_line(error)}): download it again") from error
    while isinstance(content, dict) and isinstance(content.get("state_dict", content.get("model")), dict):
        content = content.get("state_dict", content.get("model"))
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BadInput(f"{path} holds no state_dict of tensors: download the model's checkpoint again")
    return content


def items(source: Any, indices: Sequence[int], *, workers: int) -> Iterator[Item]:
    """Yield what the pipeline of the data set `source` returns for `indices`, in this order.

    An image that cannot be read, or that ends early, raises BadInput with its name, also where a worker reads it.
    """
    if workers:
        _stop_opencv_threads()
    loader = DataLoader(
        _Items(source, indices),
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        # Without its own generator, a loader draws from the global one and so changes what a method draws later.
        generator=torch.Generator().manual_seed(0),
    )
    for item in loader:
        if isinstance(item, VitptqError):
            raise item
        yield item


class _Items(Dataset["Item | VitptqError"]):
    """Items by position; an error comes as a value: raised in a worker, it would arrive wrapped in a traceback."""

    def __init__(self, source: Any, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Item | VitptqError:
        index = self.indices[position]
        path = Path(self.source.get_data_info(index)["img_path"])
        try:
            refuse_truncated(path)
            item: Item = self.source[index]
        except VitptqError as error:
            return error
        except Exception as error:  # noqa: BLE001  OpenCV, Pillow and the pipelines each raise their own
            return BadInput(f"{path} is not a readable image ({first_line(error)}); copy or unpack this file again")
        return item


def refuse_truncated(path: Path) -> None:
    """Raise BadInput for a JPEG or PNG file that ends early: OpenCV fills what is missing with grey, without a word."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            tail = stream.read()
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}); copy or unpack this file again") from error
    for start, end in ((JPEG, JPEG_END), (PNG, PNG_END)):
        if head.startswith(start) and end not in tail:
            raise BadInput(f"{path} is not a readable image (truncated); copy or unpack this file again")


def grouped(found: Iterable[Item], *, divisor: int = 1) -> list[list[Item]]:
    """Return the items by padded size: sizes in the order of their first item, the order within a size kept."""
    groups: dict[tuple[int, int], list[Item]] = {}
    for item in found:
        groups.setdefault(padded_size(item, divisor), []).append(item)
    return list(groups.values())


def equal_batches(found: Iterable[Item], *, size: int, divisor: int = 1) -> Iterator[list[Item]]:
    """Yield the items in order, up to `size` at a time, consecutive ones of equal padded size together."""
    batch: list[Item] = []
    for item in found:
        if batch and (len(batch) == size or padded_size(item, divisor) != padded_size(batch[0], divisor)):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def padded_size(item: Item, divisor: int = 1) -> tuple[int, int]:
    """Return (height, width) of the item once its sides are padded to multiples of `divisor`."""
    height, width = item["inputs"].shape[-2:]
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def prepared(prepare: nn.Module, batch: Sequence[Item]) -> tuple[Tensor, list[Any]]:
    """Return what the model reads for items of one padded size: (B, 3, H, W) floats on the device, and their samples.

    The samples are new ones with the items' meta information, so that predictions written to them do not stay.
    """
    samples = [type(item["data_samples"])(metainfo=item["data_samples"].metainfo) for item in batch]
    data = prepare({"inputs": [item["inputs"] for item in batch], "data_samples": samples}, False)
    return data["inputs"], data["data_samples"]


def calibration_batches(
    found: Iterable[Item], prepare: nn.Module, *, batch_size: int, divisor: int = 1
) -> tuple[Tensor, ...]:
    """Return the items as (B, 3, H, W) tensors of equal padded size, at most `batch_size` images each, in host memory.

    Sizes come in the order of their first item, items of one size in their order.
    """
    return tuple(
        prepared(prepare, group[start : start + batch_size])[0].cpu()
        for group in grouped(found, divisor=divisor)
        for start in range(0, len(group), batch_size)
    )


def input_spec(config: Mapping[str, Any], size: tuple[int, int]) -> InputSpec:
    """Return the model's input: `size` is the usual (height, width); mean and std are on the scale of 0 to 1, RGB."""
    normalise = config["data_preprocessor"]
    mean = tuple(float(value) / 255 for value in normalise["mean"])
    std = tuple(float(value) / 255 for value in normalise["std"])
    return InputSpec((3, *size), (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _model_config(config: Mapping[str, Any]) -> Any:
    """Return a copy as the libraries want it, without what would download or initialise weights."""
    from mmengine.config import ConfigDict

    return ConfigDict(_without_initialisation(config))


def _without_initialisation(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {key: entry for key, entry in value.items() if key not in ("init_cfg", "pretrained")}
        return {key: _without_initialisation(entry) for key, entry in kept.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_initialisation(entry) for entry in value)
    return value


def _unchanged(item: Any) -> Any:
    return item


def _stop_opencv_threads() -> None:
    """End OpenCV's pool of threads before workers are forked: a fork has the pool but not its threads, and waits."""
    import cv2

    cv2.setNumThreads(0)
