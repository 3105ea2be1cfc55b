"""What one cell may not leave behind for the next: settings of the process, and functions that all cells call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from timm.layers import Mlp
from torch import nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook

from vitptq.bench.isolation.surroundings import Surroundings
from vitptq.bench.results import audit_rules
from vitptq.bench.run.audit import Inspector

Change = Callable[[pytest.MonkeyPatch], object]


@pytest.fixture
def kept() -> Iterator[None]:
    """Put back what the changes below do to torch."""
    dtype, threads, folder = torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)
    os.chdir(folder)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda patch: patch.setattr(functional, "softmax", torch.softmax), "torch.nn.functional.softmax"),
        (lambda patch: patch.setattr(torch, "matmul", torch.mm), "torch.matmul"),
        (lambda patch: patch.setattr(torch.Tensor, "matmul", torch.mm), "torch.Tensor.matmul"),
        (lambda patch: patch.setattr(nn.LayerNorm, "forward", nn.Identity.forward), "LayerNorm.forward"),
        (lambda patch: patch.setattr(nn.GELU, "__call__", nn.Identity.forward, raising=False), "GELU.__call__"),
        (lambda patch: patch.setattr(Mlp, "forward", nn.Identity.forward), "timm.layers.mlp.Mlp.forward"),
        (lambda patch: patch.setattr(Inspector, "report", None), "vitptq.bench.run.audit.Inspector.report"),
        (lambda patch: patch.setattr(audit_rules, "MORE_MACS", 9.0), "vitptq.bench.results.audit_rules.MORE_MACS"),
        (lambda patch: patch.chdir("/"), "the working directory"),
        (lambda patch: patch.setenv("VITPTQ_DATA", "/elsewhere"), "VITPTQ_DATA"),
        (lambda patch: torch.set_default_dtype(torch.float64), "torch's default dtype"),
        (lambda patch: torch.set_num_threads(torch.get_num_threads() + 1), "torch's threads"),
    ],
)
def test_change_is_named(change: Change, name: str, kept: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Surroundings()
    assert before.changed() == []
    change(monkeypatch)
    assert any(name in text for text in before.changed())


def test_hook_on_all_modules_is_a_change() -> None:
    before = Surroundings()
    handle = register_module_forward_hook(lambda *_: None)
    assert before.changed() == ["hooks on all modules (0, now 1)"]
    handle.remove()
    assert before.changed() == []


def test_module_that_was_imported_later_is_watched_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Surroundings()
    late = type(torch)("timm.late")
    late.function = len  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "timm.late", late)
    assert before.changed() == []
    before.take_in_new_modules()
    late.function = max  # type: ignore[attr-defined]
    assert before.changed() == ["timm.late.function"]
