"""What every cell must find as the one before it did: the settings of the process, and the functions that it calls.

A worker in which a method changed one of them is replaced, so that no cell measures what another left behind.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # as late as it is otherwise first imported, it would replace torch.manual_seed
from torch.nn.modules import module as torch_module

PACKAGES = (
    "vitptq.", "torch.nn", "torch.functional", "timm.", "torchvision.", "mmcv.", "mmdet.", "mmengine.", "mmseg."
)  # fmt: skip
"""Where functions and classes are compared, besides torch's own namespace and its tensors."""
HARNESS = "vitptq.bench."
ENVIRONMENT = (
    "VITPTQ_DATA",
    "VITPTQ_CHECKPOINTS",
    "VITPTQ_CACHE",
    "VITPTQ_NO_CACHE",
    "VITPTQ_DECODERS",
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
)
_ABSENT = object()


class Surroundings:
    """The state of this process as it is when this is made."""

    def __init__(self) -> None:
        """Note settings, functions and classes; takes 20 ms, and comparing with them 5."""
        self._settings = _settings()
        self._modules: set[str] = set()
        self._functions: list[tuple[str, Mapping[str, Any], str, Any]] = []
        self._classes: list[tuple[str, Mapping[str, Any], frozenset[str]]] = []
        self.take_in_new_modules()

    def take_in_new_modules(self) -> None:
        """Note the functions and classes of what was imported since."""
        for name in [name for name in sys.modules if name not in self._modules]:
            self._modules.add(name)
            if name == "torch" or name.startswith(PACKAGES):
                self._note_module(name, vars(sys.modules[name]))

    def _note_module(self, name: str, namespace: Mapping[str, Any]) -> None:
        """Note the functions and classes of a module, the members of its own classes, and the harness's constants.

        Each comes with the namespace that holds it, which shows at any later time what is there then.
        """
        for key, value in list(namespace.items()):
            if callable(value) or (name.startswith(HARNESS) and key.isupper()):
                self._functions.append((name, namespace, key, value))
            if isinstance(value, type) and (value.__module__ == name or value is torch.Tensor):
                self._note_class(f"{name}.{key}", vars(value))

    def _note_class(self, name: str, namespace: Mapping[str, Any]) -> None:
        self._classes.append((name, namespace, frozenset(namespace)))
        self._functions += [(name, namespace, key, value) for key, value in namespace.items() if _is_member(value)]

    def changed(self) -> list[str]:
        """Name what is not as it was; what an import brings in addition is no change."""
        now = _settings()
        settings = [
            f"{name} ({value}, now {now[name]})" for name, value in self._settings.items() if now[name] != value
        ]
        functions = [
            f"{owner}.{name}"
            for owner, namespace, name, value in self._functions
            if namespace.get(name, _ABSENT) is not value
        ]
        return settings + functions + self._added()

    def _added(self) -> list[str]:
        """Name the members that a class has in addition: they stand before those that it inherits."""
        grown = [(owner, space, keys) for owner, space, keys in self._classes if len(space) != len(keys)]
        return [
            f"{owner}.{name}"
            for owner, space, keys in grown
            for name, value in list(space.items())
            if name not in keys and _is_member(value)
        ]


def _settings() -> dict[str, Any]:
    return {
        "the working directory": str(Path.cwd()),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "torch's precision of float32 products": torch.get_float32_matmul_precision(),
        "autocast on the CPU": torch.is_autocast_enabled("cpu"),
        "autocast on a GPU": torch.is_autocast_enabled("cuda"),
        "torch's function modes": torch._C._len_torch_function_stack(),
        "torch's dispatch modes": torch._C._len_torch_dispatch_stack(),
        "hooks on all modules": len(torch_module._global_forward_hooks) + len(torch_module._global_forward_pre_hooks),
        **{name: os.environ.get(name) for name in ENVIRONMENT},
    }


def _is_member(value: object) -> bool:
    return callable(value) or isinstance(value, property | staticmethod | classmethod)
