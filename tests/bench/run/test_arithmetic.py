"""How torch computes: what is set, what is noted, and what a precision changes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vitptq.bench.run import arithmetic
from vitptq.bench.run.arithmetic import evaluated_in, unrepeatable_operations

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    arithmetic.make_repeatable()
    yield
    torch.use_deterministic_algorithms(False)


def without_repeatable_form() -> None:
    torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))


def test_tf32_is_off_unless_it_is_asked_for() -> None:
    model = nn.Linear(2, 2)
    flags = ("tf32_matmul", "tf32_cudnn")
    assert not any(arithmetic.settings()[flag] for flag in flags)
    with evaluated_in("tf32", model, CPU):
        assert all(arithmetic.settings()[flag] for flag in flags)
    assert not any(arithmetic.settings()[flag] for flag in flags)


def test_operations_without_a_repeatable_form_are_named_once() -> None:
    with unrepeatable_operations() as found:
        without_repeatable_form()
        without_repeatable_form()
    assert list(found) == ["put_"]


def test_other_warnings_pass() -> None:
    with pytest.warns(UserWarning, match="something else"), unrepeatable_operations() as found:
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert not found


class Watched(nn.Module):
    """Notes the type in which its layer puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.seen: list[torch.dtype] = []

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        self.seen.append(out.dtype)
        return out


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_have_the_precision_and_outputs_are_float32(
    precision: arithmetic.Precision, dtype: torch.dtype
) -> None:
    model = Watched()
    with evaluated_in(precision, model, CPU):
        assert model(torch.ones(2, 8)).dtype == torch.float32
    assert model.seen == [dtype]
    model(torch.ones(2, 8))
    assert model.seen[1] == torch.float32


def test_only_the_backbone_of_a_model_that_has_one_is_in_16_bits() -> None:
    model = nn.Module()
    model.backbone, model.head = Watched(), Watched()
    with evaluated_in("bf16", model, CPU):
        model.head(model.backbone(torch.ones(2, 8)))
    assert (model.backbone.seen, model.head.seen) == ([torch.bfloat16], [torch.float32])
