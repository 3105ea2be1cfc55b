"""`vitptq check`: every shipped method passes, every planted fault is named."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import ClassVar

import pytest
from torch import nn

from tests.bench.planted import EXPECTED, Planted, Raises
from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, Method
from vitptq.bench.run import adapter_check


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_every_shipped_method_keeps_the_contract(name: str) -> None:
    broken = [finding for finding in adapter_check.check(registry.method(name)) if not finding.ok]
    assert not broken


@pytest.mark.parametrize("cls", EXPECTED, ids=lambda cls: cls.__name__)
def test_planted_fault_is_named(cls: type[Method]) -> None:
    broken = [finding for finding in adapter_check.check(cls) if not finding.ok]
    assert any(EXPECTED[cls] in finding.problem for finding in broken), broken


def test_honest_base_of_the_planted_adapters_passes() -> None:
    assert all(finding.ok for finding in adapter_check.check(Planted))


@dataclass(frozen=True)
class Slow(Planted):
    """Refuses to run unless it is told to be quick."""

    trial: ClassVar[dict[str, int]] = {"steps": 1}
    steps: int = 1000

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Quantise honestly, where the number of steps is bearable."""
        assert self.steps == 1
        return super().quantize(model, calibration, bits)


@dataclass(frozen=True)
class WrongTrial(Slow):
    """Names a trial parameter that it does not have."""

    trial: ClassVar[dict[str, int]] = {"stpes": 1}


@dataclass(frozen=True)
class StrangeParity(Planted):
    """Was compared with official code at a parameter that it does not have."""

    parity: ClassVar[dict[str, str]] = {"form": "released"}


@dataclass(frozen=True)
class UnshownParity(Planted):
    """States parity, and names no test."""

    parity: ClassVar[dict[str, str]] = {"shift": "0"}


def test_parity_without_a_test_is_a_finding() -> None:
    broken = [finding for finding in adapter_check.check(UnshownParity) if not finding.ok]
    assert "`parity_test` is empty" in [finding.problem for finding in broken]


def test_parity_of_an_unknown_parameter_is_named() -> None:
    broken = [finding for finding in adapter_check.check(StrangeParity) if not finding.ok]
    assert any("it has no form" in finding.problem for finding in broken), broken


def test_slow_method_is_tried_with_its_trial_parameters() -> None:
    assert all(finding.ok for finding in adapter_check.check(Slow))


def test_an_adapters_exception_is_named_with_its_file_and_line() -> None:
    source, first = inspect.getsourcelines(Raises)
    line = first + next(number for number, text in enumerate(source) if "raise " in text)
    broken = [finding.problem for finding in adapter_check.check(Raises) if not finding.ok]
    assert f"it raised RuntimeError: planted failure (planted.py, line {line})" in broken


def test_unknown_trial_parameter_is_named() -> None:
    broken = [finding for finding in adapter_check.check(WrongTrial) if not finding.ok]
    assert any("has no parameter stpes" in finding.problem for finding in broken), broken
