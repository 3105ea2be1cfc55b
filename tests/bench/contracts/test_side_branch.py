"""Side branches: half precision, and told apart by their own type."""

from __future__ import annotations

import torch
from torch import nn

from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.contracts.side_branch import SideBranch, branch_names
from vitptq.bench.run.audit import audit, parameter_counts


class Hidden(SideBranch):
    """A branch of another type may compute anything."""


class Branched(nn.Module):
    def __init__(self, kind: type[SideBranch]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.extra = nn.Linear(16, 16), kind(torch.randn(16, 16), torch.randn(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.linear(x) + self.extra(x)
        return found


def test_numbers_are_rounded_to_half_precision_and_added_up_in_float() -> None:
    weight, bias, x = torch.randn(3, 5), torch.randn(3), torch.randn(2, 7, 5)
    found = SideBranch(weight, bias)(x)
    expected = x.half().float() @ weight.half().float().T + bias.half().float()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert found.dtype == torch.float32


def test_only_the_branch_itself_counts_as_one() -> None:
    assert branch_names(Branched(SideBranch)) == {"extra"}
    assert branch_names(Branched(Hidden)) == frozenset()


def test_parameters_of_branches_are_counted_apart() -> None:
    counts = parameter_counts(Branched(SideBranch))
    assert counts == {"body": 16 * 16 + 16, "branch": 16 * 16 + 16}


def test_the_audit_tells_the_branch_from_the_products_of_the_model() -> None:
    x, bits = torch.randn(1, 4, 16), BitSpec(4, 4, branch=True)
    for kind, expected in ((SideBranch, [False, False, True, True]), (Hidden, [False] * 4)):
        found = audit(Branched(kind).eval(), bits, x, lambda model, batch: model(batch))
        assert [side.branch for side in found.operands] == expected
    assert audit(nn.Linear(16, 16), FLOAT, x, lambda model, batch: model(batch)).clean
