"""Modules as they were, so that a change can be tried and taken back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class Snapshot:
    """Remembers the class of some modules, and the values of their own parameters and buffers."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._kept = [
            (module, type(module), [(own, dict(own), _copies(own)) for own in _tables(module)]) for module in modules
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Make the modules what they were; parameters stay the same objects."""
        for module, cls, tables in self._kept:
            module.__class__ = cls
            for own, entries, values in tables:
                own.clear()
                own.update(entries)
                for name, value in values.items():
                    own[name].copy_(value)


def _tables(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the module's own parameters and its own buffers, by name; an entry may be None."""
    return module._parameters, module._buffers


def _copies(own: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in own.items() if tensor is not None}
