"""The published track: settings by paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench import registry
from vitptq.bench.errors import BadInput, UnknownName
from vitptq.bench.results import paper_settings, suites


@pytest.mark.parametrize("paper", paper_settings.papers())
def test_every_setting_names_a_method_and_parameters_that_it_has(paper: str) -> None:
    for block in paper_settings.load(paper).settings:
        for name in block.methods:
            registry.method(name).configured(block.parameters)
            for task in block.tasks:
                registry.task(task, "full").calibration_names(block.calibration_size, 0)


@pytest.mark.parametrize("paper", paper_settings.papers())
def test_every_paper_says_where_its_settings_are_from(paper: str) -> None:
    assert "arXiv" in paper_settings.load(paper).source


def test_the_first_block_that_covers_a_cell_counts() -> None:
    narrow = paper_settings.settings("aphq-vit", "imagenet", "aphq-vit", "w4a4")
    wide = paper_settings.settings("aphq-vit", "imagenet", "aphq-vit", "W3A3")
    assert (narrow.parameters["clamp_percentile"], wide.parameters["clamp_percentile"]) == (0.98, 0.99)


def test_unknown_paper_and_what_a_paper_does_not_say_are_refused() -> None:
    with pytest.raises(UnknownName, match='did you mean "aphq-vit"'):
        paper_settings.settings("aphqvit", "imagenet", "aphq-vit", "W4A4")
    with pytest.raises(BadInput, match="aphq-vit say nothing about minmax on imagenet at W4A4: leave these cells out"):
        paper_settings.settings("aphq-vit", "imagenet", "minmax", "W4A4")


def test_cells_of_a_paper_have_its_settings_on_the_published_track(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    group = '[[cells]]\ntask = "imagenet"\nedition = "full"\nmodels = ["deit_tiny_patch16_224.fb_in1k"]\n'
    group += 'methods = ["adalog"]\nbits = ["W4A4"]\n'
    path.write_text(
        f'title = "t"\n{group}{group}paper = "adalog"\n'
        f'{group}paper = "adalog"\ncalibration_size = 32\nparameters = {{ reconstruct = false }}\n'
    )
    standard, trained, searched = (cell for cell in suites.load(str(path)) if not cell.is_float)
    assert (standard.track, standard.calibration_size) == ("standard", 32)
    assert (trained.track, trained.calibration_size, trained.parameters["reconstruct"]) == ("published", 1024, True)
    assert (searched.track, searched.calibration_size) == ("published", 32)
    assert (searched.parameters["reconstruct"], searched.parameters["candidates"]) == (False, 128)
