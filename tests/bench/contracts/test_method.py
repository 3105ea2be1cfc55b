"""Methods: which parameters are a part of a cell's identity."""

from __future__ import annotations

from dataclasses import dataclass

from vitptq.bench.contracts.method import Method, run_time


@dataclass(frozen=True)
class Budgeted(Method):
    """A method with parameters of each kind."""

    name = "budgeted"
    title = "Budgeted"
    fidelity = "paper"
    rate: float = 0.1
    memory_mb: int = run_time(256)
    autocast: str = run_time("off", neutral="off")

    def quantize(self, model, calibration, bits):  # type: ignore[no-untyped-def]
        return model


def test_a_run_time_parameter_is_no_part_of_the_identity() -> None:
    assert Budgeted(memory_mb=1).identity_parameters() == Budgeted().identity_parameters() == {"rate": 0.1}


def test_a_run_time_parameter_is_still_a_parameter() -> None:
    assert Budgeted.configured({"memory_mb": 8}).parameters() == {"rate": 0.1, "memory_mb": 8, "autocast": "off"}


def test_a_value_that_is_not_the_neutral_one_is_a_part_of_the_identity() -> None:
    assert Budgeted(autocast="bf16").identity_parameters() == {"rate": 0.1, "autocast": "bf16"}


@dataclass(frozen=True)
class Compared(Budgeted):
    """A method that was compared with official code at one rate."""

    name = "compared"
    parity = {"rate": 0.5}  # noqa: RUF012  as an adapter writes it


def test_only_the_compared_parameters_have_parity() -> None:
    assert Compared(rate=0.5).fidelity_as_configured() == "parity"
    assert Compared(rate=0.5, memory_mb=8).fidelity_as_configured() == "parity"
    assert Compared().fidelity_as_configured() == Budgeted().fidelity_as_configured() == "paper"
