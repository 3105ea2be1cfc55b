"""Checkpoint files: their hashes, their tensors, and what an error says that came from reading one."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.foreign_files import refuse_disguised

AGAIN = "download it again"
_PICKLE = b"\x80"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read once per process while it does not change; an absent one is Missing."""
    if not path.exists() and not path.is_symlink():
        raise Missing(f"{path} is not there")
    refuse_disguised(path, AGAIN)
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, _size: int, _mtime: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
    refuse_other_hash(path, digest)
    state = read_state(path)
    try:
        model.load_state_dict(convert(state) if convert else state, strict=True)
    except Exception as error:  # a converter of keys meets another model's
        raise BadInput(f"{path} is not a checkpoint of this model: {first_problem(error)}") from error


def refuse_other_hash(path: Path, digest: str | None) -> None:
    """Raise BadInput where a file's sha256 does not begin with `digest`; None accepts any file that is there."""
    found = sha256_of(path)
    if digest is not None and (len(digest) < 8 or not found.startswith(digest.lower())):
        raise BadInput(f"{path} has sha256 {found[:12]}..., its model is pinned to {digest[:12]}...: {AGAIN}")


def refuse_unreadable(path: Path) -> None:
    """Raise BadInput where a checkpoint's first bytes are not those of its format; nothing of it is loaded."""
    refuse_disguised(path, AGAIN)
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                file.keys()
            return
        known = zipfile.is_zipfile(path) or _starts_with(path, _PICKLE)
    except (safetensors.SafetensorError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as a checkpoint ({first_line(error)}): {AGAIN}") from error
    if not known:
        raise BadInput(f"{path} cannot be read as a checkpoint (neither an archive nor a pickle): {AGAIN}")


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file or of a PyTorch checkpoint; no code in it is run."""
    refuse_disguised(path, AGAIN)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive or pickle raises whatever its bytes lead to
        raise BadInput(f"{path} cannot be read as a checkpoint ({first_line(error)}): {AGAIN}") from error
    while isinstance(content, dict) and isinstance(content.get("state_dict", content.get("model")), dict):
        content = content.get("state_dict", content.get("model"))
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BadInput(f"{path} holds no state_dict of tensors: download the model's checkpoint again")
    return content


def _starts_with(path: Path, start: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(start)) == start


def first_problem(error: BaseException) -> str:
    """Return the first wrong key of torch's list of all, else the error's first line."""
    match = re.search(r'(Missing|Unexpected) key\(s\)[^"]*"([^"]+)"|size mismatch for ([^:]+): (.+)', str(error))
    if match is None:
        return first_line(error) if "weights_only" in str(error) else f"{type(error).__name__}: {first_line(error)}"
    if match[3]:
        return f"{match[3]} has another shape ({match[4].strip()})"
    return f"{match[1].lower()} key {match[2]}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    text = str(error).strip()
    if "weights_only" in text:  # torch goes on to advise what would run the file's code
        return "it is no plain checkpoint: what it holds beside tensors would run as code, and is not loaded"
    return (text.splitlines() or [type(error).__name__])[0]
