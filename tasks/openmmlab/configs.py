"""Configurations of OpenMMLab's libraries: those that the packages bring along, and files of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.checkpoints import first_line
from vitptq.tasks.openmmlab.libraries import Scope, require

Config = Mapping[str, Any]


@cache
def packaged_config(name: str, scope: Scope) -> Config:
    """Return a configuration that a library's package brings along, by its path without the ending."""
    require(scope)
    spec = find_spec(scope)
    assert spec is not None and spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], ".mim", "configs", f"{name}.py")
    if not path.is_file():
        raise Missing(f"this {scope} brings no configuration {name} ({path} is not there): install the pinned version")
    return _read(path)


def named_config(name: str, folder: Path, scope: Scope) -> Config:
    """Return the configuration in `folder` that `name` ends with .py for, else the packaged one of this name."""
    if not name.endswith(".py"):
        return packaged_config(name, scope)
    path = folder / name
    if not path.is_file():
        raise Missing(f"{path} is not there: copy the model's configuration to it")
    require(scope)
    try:
        return _read(path)
    except Exception as error:  # a configuration is Python, and may raise anything
        raise BadInput(f"{path} cannot be read as a configuration of {scope} ({first_line(error)}): mend it") from error


def part_of(config: Config, *keys: str) -> Any:
    """Return what is under the keys, one inside the other; BadInput names the first that is not there."""
    found: Any = config
    for key in keys:
        if not isinstance(found, Mapping) or key not in found:
            raise BadInput(f"the configuration has no {'.'.join(keys)}: it must be that of a whole model")
        found = found[key]
    return found


def for_one_device(value: Any) -> Any:
    """Return a config with BN for SyncBN: the same parameters and, in evaluation, the same function without a group."""
    if isinstance(value, Mapping):
        return {
            key: "BN" if (key, entry) == ("type", "SyncBN") else for_one_device(entry) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(for_one_device(entry) for entry in value)
    return value


def _read(path: Path) -> Config:
    from mmengine.config import Config as MmengineConfig

    config: Config = MmengineConfig.fromfile(path).to_dict()
    return config
