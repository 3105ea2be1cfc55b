"""What counts as a product, and what no watcher may miss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench.run.test_audit import audited
from vitptq.bench.run.products import recorded


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: torch.mv(x, x[0]),
        lambda x: torch.addmv(x[:, 0], x, x[0]),
        lambda x: x[0].dot(x[0]),
        lambda x: torch.addbmm(torch.zeros(6, 6), x[None], x.T[None]),
        lambda x: torch.zeros(1, 6, 6).baddbmm_(x[None], x.T[None]),
        lambda x: torch.zeros(6, 6).addmm_(x, x.T),
        lambda x: functional.bilinear(x, x, torch.randn(4, 8, 8)),
        lambda x: torch._int_mm(torch.ones(32, 32, dtype=torch.int8), torch.ones(32, 32, dtype=torch.int8)),
        lambda x: nn.LSTM(8, 8)(x),
        lambda x: nn.GRU(8, 8)(x),
        lambda x: torch.sparse.mm(x.to_sparse(), x.T),
        lambda x: torch.conv_tbc(x[None], torch.randn(1, 8, 4), torch.zeros(4)),
        lambda x: torch.cdist(x, x),
        lambda x: functional.embedding_bag(
            torch.arange(6)[None], x, per_sample_weights=torch.randn(1, 6), mode="sum"
        ),
        lambda x: torch._addmm_activation(torch.zeros(6), x, x.T),
        lambda x: torch.fft.fft(x),
        lambda x: torch.linalg.inv(x[:6, :6]),
        lambda x: torch.einsum("ij,kj->ik", x, x),
    ],
)  # fmt: skip
def test_product_beside_the_audited_ones_is_noticed(compute: Callable[[Tensor], object]) -> None:
    def also(x: Tensor, w: Tensor) -> Tensor:
        compute(x[0])
        return functional.linear(x, w)

    (violation,) = audited(also).violations
    assert "counts as float" in violation or "count as float" in violation


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: functional.interpolate(x[None], size=16, mode="linear"),
        lambda x: functional.softmax(x, dim=-1) + functional.gelu(x).sum(),
        lambda x: functional.layer_norm(x, (8,)).resolve_conj(),
        lambda x: functional.embedding(torch.arange(6), x).sort(),
    ],
)
def test_what_multiplies_no_matrices_is_no_product(compute: Callable[[Tensor], object]) -> None:
    def also(x: Tensor, w: Tensor) -> Tensor:
        compute(x[0])
        return functional.linear(x, w)

    assert audited(also).clean


def test_every_product_has_its_module_operands_and_macs() -> None:
    model = nn.Sequential(nn.Linear(8, 4, bias=False), nn.Linear(4, 2))
    with recorded(model, torch.zeros(1, 8)) as recording:
        model(torch.randn(3, 8))
    assert [(left.module, left.op, left.role, left.macs) for left, _ in recording.products] == [
        ("0", "linear", "input", 3 * 8 * 4),
        ("1", "linear", "input", 3 * 4 * 2),
    ]
    assert recording.counter.macs == 3 * 8 * 4 + 3 * 4 * 2
    assert recording.counter.uncounted == {}


def test_nothing_is_recorded_afterwards() -> None:
    model = nn.Linear(8, 4)
    with recorded(model, torch.zeros(1, 8)) as recording:
        pass
    model(torch.randn(3, 8))
    assert recording.products == []
    assert torch._C._len_torch_function_stack() == torch._C._len_torch_dispatch_stack() == 0


@pytest.mark.parametrize("need_weights", [True, False])
def test_products_of_torchs_own_attention_are_all_seen(need_weights: bool) -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=need_weights)[0]

    model, x = Attends().eval(), torch.randn(1, 5, 16)
    with recorded(model, x) as recording:
        model(x)
    macs = [sides[0].macs for sides in recording.products]
    assert macs == [5 * 16 * 48, 5 * 5 * 16, 5 * 5 * 16, 5 * 16 * 16]
    assert recording.counter.macs == sum(macs)
    assert not recording.counter.uncounted
