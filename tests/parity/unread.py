"""Run the parity tests and say which official arrays none of them reads: `python -m tests.parity.unread`.

Every array is compared, or is the input of one that is, or stands in `NOT_COMPARED` with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterator, Mapping
from functools import cache

import pytest
from torch import Tensor

from tests.parity import figures

NOT_COMPARED = {
    "adalog/logits_search_W4A4": "the search of a whole model takes minutes; its figure is in docs/methods/parity.md",
    "aphq_vit/logits_search_W4A4": "the search of a whole model takes minutes; its figure is in docs/methods/parity.md",
    "ptq4vit/final_W4A4/patch_embed.proj/a_interval": "the step of 32 bits of an image that stays in float",
}


class Watched(Mapping[str, Tensor]):
    """The arrays of a method, which remember what was asked for by name."""

    def __init__(self, method: str, arrays: Mapping[str, Tensor], read: set[str]) -> None:
        self.method, self.arrays, self.read = method, arrays, read

    def __getitem__(self, name: str) -> Tensor:
        found = self.arrays[name]
        self.read.add(f"{self.method}/{name}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.arrays  # which reads nothing

    def items(self) -> ItemsView[str, Tensor]:
        """Return all pairs: whoever takes all alike compares none."""
        return self.arrays.items()

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def names() -> set[str]:
    """Return every official array as METHOD/NAME."""
    return {f"{path.stem}/{name}" for path in figures.DATA.glob("*.npz") for name in figures.official(path.stem)}


def main(arguments: list[str]) -> int:
    """Print the arrays that should have been read; return the exit status."""
    known, read, official = names(), set[str](), figures.official
    figures.official = cache(lambda method: Watched(method, official(method), read))
    status = pytest.main([str(figures.DATA.parent), "-p", "no:benchmark", "-q", *arguments])
    unread, idle = known - read - set(NOT_COMPARED), read & set(NOT_COMPARED)
    for name in sorted(unread):
        print(f"{name}: no test reads it")
    for name in sorted(idle):
        print(f"{name}: is read, so it needs no reason in NOT_COMPARED")
    print(f"{len(known)} arrays: {len(read)} read, {len(NOT_COMPARED)} not compared for a reason, {len(unread)} unread")
    return int(status) or int(bool(unread or idle))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
