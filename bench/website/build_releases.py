"""Dated releases of a site: the whole site of a day at an address of its own, which later builds keep.

releases/2026-11-28/index.html       as on that day; never written again
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from datetime import date
from pathlib import Path

from vitptq.bench.errors import BadInput

FOLDER = "releases"
LEFT_OUT = ("sitemap.xml",)
"""A site has one map, of its present pages."""


def check_release(name: str, earlier: Path) -> None:
    """Raise BadInput where `name` is no date, or the site in `earlier` has that release already."""
    if not _is_date(name):
        raise BadInput(f'release "{name}" is no date; name one such as 2026-11-28')
    if (earlier / FOLDER / name).exists():
        raise BadInput(f"release {name} exists in {earlier} and never changes; name another date")


def releases(site: Path) -> tuple[str, ...]:
    """Return the dates of a site's releases, newest first."""
    found = (site / FOLDER).iterdir() if (site / FOLDER).is_dir() else ()
    return tuple(sorted((path.name for path in found if _is_date(path.name) and path.is_dir()), reverse=True))


def keep_releases(earlier: Path, building: Path) -> None:
    """Take the releases of the earlier site over."""
    for name in releases(earlier):
        _copy(earlier / FOLDER / name, building / FOLDER / name)


def add_release(building: Path, name: str) -> None:
    """Keep the site as it is now as a release."""
    target = building / FOLDER / name
    for path in sorted(building.iterdir()):
        if path.name in (FOLDER, *LEFT_OUT):
            continue
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            target.mkdir(parents=True, exist_ok=True)
            _link(str(path), str(target / path.name))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target, symlinks=True, copy_function=_link)


def _link(source: str, target: str) -> None:
    """Give a file another name, or copy it where the file system does not do that: a site's files never change."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def _is_date(name: str) -> bool:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", name):
        return False
    with suppress(ValueError):
        date.fromisoformat(name)
        return True
    return False
