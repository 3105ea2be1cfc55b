"""Options that several commands have."""

from __future__ import annotations

import pytest

from tests.bench.commands.command_line import vitptq


@pytest.mark.parametrize("command", ["plan", "run", "status"])
def test_commands_on_a_suite_take_the_same_choice_of_cells(command: str) -> None:
    text = vitptq(command, "--help")
    assert not [option for option in ("--only", "--method", "--adapter", "--results") if option not in text]
