"""The picture and the table of docs/operands.md, drawn from made-up statistics."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from vitptq.methods.core.sensitivity.operand_statistics import OperandStatistics

SCRIPT = Path(__file__).parents[1] / "docs" / "figures" / "operands.py"


@pytest.fixture(scope="module")
def figure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("operands_figure", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FOUND = {
    "dinov2_vits14": OperandStatistics({"a": 3.0, "b": 40.0}, {"a": 2.0, "b": 28.0}, {"a": 0.1, "b": 0.9}),
    "mini_swin_outlier": OperandStatistics({"a": 20.0, "b": 21.0}, {"a": 5.0, "b": 6.0}, {"a": 0.2, "b": 0.3}),
}


def test_a_line_per_model_and_statistic_is_drawn(figure: ModuleType) -> None:
    root = ElementTree.fromstring(figure.drawn(FOUND))
    titles = [entry.text for entry in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles.count("dinov2_vits14") == titles.count("mini_swin_outlier") == 3


def test_the_table_has_the_extremes_of_each_model(figure: ModuleType) -> None:
    rows = figure.table(FOUND).splitlines()[2:]
    assert rows[0] == "| `dinov2_vits14` | 21.5 | 40.0 | 2.0 | 28.0 | 0.50 | 0.90 |"


def test_residuals_are_told_as_multiples_of_the_first_block(figure: ModuleType) -> None:
    assert figure.relative({"a": 2.0, "b": 28.0}) == {"a": 1.0, "b": 14.0}
