"""Arguments and outputs of a unit: nested tuples, lists and dicts, of which the tensors with the images come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten


@dataclass(frozen=True)
class Layout:
    """Where the tensors that hold the images sit in a tree; everything else in it is a constant.

    `rows[i]` is how many rows of the first axis one image has in the i-th of them (windows, for a layer inside window
    attention), else 0: the first axis is the image itself.
    """

    spec: TreeSpec
    leaves: tuple[Any, ...]
    """The constants in their places."""
    places: tuple[int, ...]
    rows: tuple[int, ...]

    @classmethod
    def of(cls, tree: Any, images: int, *, rows: bool = False) -> Layout:
        """Describe `tree`, seen with `images` images; with `rows`, an image may have several rows of a first axis."""
        leaves, spec = tree_flatten(tree)
        places, numbers = [], []
        for place, leaf in enumerate(leaves):
            if not isinstance(leaf, Tensor) or leaf.ndim == 0:
                continue
            if len(leaf) == images:
                places.append(place)
                numbers.append(0)
            elif rows and len(leaf) > images and len(leaf) % images == 0:
                places.append(place)
                numbers.append(len(leaf) // images)
        constants = tuple(None if place in places else leaf for place, leaf in enumerate(leaves))
        return cls(spec, constants, tuple(places), tuple(numbers))

    def split(self, tree: Any) -> list[Tensor]:
        """Return the tensors of a tree of this layout, images on the first axis of each."""
        leaves, spec = tree_flatten(tree)
        assert spec == self.spec, "a unit was called in two ways"
        found = [leaves[place] for place in self.places]
        return [x.unflatten(0, (-1, rows)) if rows else x for x, rows in zip(found, self.rows, strict=True)]

    def join(self, tensors: Sequence[Tensor]) -> Any:
        """Return the tree with these tensors in it."""
        leaves = list(self.leaves)
        for place, rows, x in zip(self.places, self.rows, tensors, strict=True):
            leaves[place] = x.flatten(0, 1) if rows else x
        return tree_unflatten(leaves, self.spec)

    def key(self, tree: Any) -> str:
        """Name what two trees must share so that their images can stand in one batch."""
        shapes = [(tuple(x.shape[1:]), x.dtype) for x in self.split(tree)]
        plain = [leaf if not isinstance(leaf, Tensor) else tuple(leaf.shape) for leaf in self.leaves]
        return repr((shapes, plain, self.rows, str(self.spec)))
