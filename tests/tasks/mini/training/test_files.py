"""What a training writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vitptq.tasks.mini.models.shipped import WEIGHTS
from vitptq.tasks.mini.training import files


def test_a_checkpoint_comes_back_and_leaves_no_partial_file(tmp_path: Path) -> None:
    path = files.checkpoint_file("model", tmp_path / "work")
    files.write_checkpoint(path, {"weights": torch.arange(3)})
    assert torch.equal(files.read_checkpoint(path)["weights"], torch.arange(3))
    assert [file.name for file in path.parent.iterdir()] == ["model.checkpoint.pt"]


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    files.refuse_other_recipe(tmp_path, {"rate": 1}, {"rate": 1})
    with pytest.raises(ValueError, match=r"belongs to the recipe {'rate': 1}, not {'rate': 2}; use another --work"):
        files.refuse_other_recipe(tmp_path, {"rate": 1}, {"rate": 2})


@pytest.mark.parametrize("name", ["mini_swin", "mini_upernet_swin"])
def test_facts_are_written_as_the_shipped_ones_are(tmp_path: Path, name: str) -> None:
    shipped = WEIGHTS / f"{name}.json"
    files.write_facts(tmp_path / "facts.json", json.loads(shipped.read_text()))
    assert (tmp_path / "facts.json").read_text() == shipped.read_text()


def test_a_log_has_whole_units_and_four_decimals(tmp_path: Path) -> None:
    files.write_log(tmp_path / "log.csv", [{"step": 50, "loss": 0.5}, {"step": 100, "loss": 1 / 3}])
    assert (tmp_path / "log.csv").read_text() == "step,loss\n50,0.5000\n100,0.3333\n"
