"""`vitptq check`: every shipped method passes, every planted fault is named."""

from __future__ import annotations

import pytest

from bench import contract, registry
from bench.protocol import Method
from tests.bench.planted import EXPECTED, Planted


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_shipped_method_keeps_the_contract(name: str) -> None:
    broken = [finding for finding in contract.check(registry.method(name)) if not finding.ok]
    assert not broken


@pytest.mark.parametrize("cls", EXPECTED, ids=lambda cls: cls.__name__)
def test_planted_fault_is_named(cls: type[Method]) -> None:
    broken = [finding for finding in contract.check(cls) if not finding.ok]
    assert any(EXPECTED[cls] in finding.problem for finding in broken), broken


def test_honest_base_of_the_planted_adapters_passes() -> None:
    assert all(finding.ok for finding in contract.check(Planted))
