"""Layouts: taking a tree of arguments apart and joining it again."""

from __future__ import annotations

import torch

from vitptq.methods.core.reconstruct.layout import Layout


def test_layout_takes_a_tree_apart_and_joins_it() -> None:
    x, y, constant = torch.randn(6, 2), torch.randn(12, 2), torch.randn(5)
    tree = ((x, (3, 4), constant), {"mask": None, "windows": y})
    layout = Layout.of(tree, 6, rows=True)
    tensors = layout.split(tree)
    assert [tuple(t.shape) for t in tensors] == [(6, 2), (6, 2, 2)]
    (first, shape, kept), more = layout.join([t[:2] for t in tensors])
    assert torch.equal(first, x[:2]) and torch.equal(more["windows"], y[:4])
    assert shape == (3, 4) and kept is constant and more["mask"] is None
