"""Lists."""

from __future__ import annotations

from tests.bench.commands.command_line import vitptq


def test_lists() -> None:
    assert "repq-vit" in vitptq("list", "methods")
    assert "imagenet/mini" in vitptq("list", "tasks")
    assert "quick" in vitptq("list", "suites")
    assert "vit_small_patch16_224.augreg_in21k_ft_in1k" in vitptq("list", "models")
