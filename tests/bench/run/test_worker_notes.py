"""What workers tell the process that started them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch

from tests.bench.record_factory import make_cell
from vitptq.bench.run import worker_notes
from vitptq.bench.run.worker_notes import SAY_EVERY_S, STALE_S, Speaker, Step

CPU = torch.device("cpu")


def test_a_step_is_seen_with_the_cells_name_until_the_cell_ends(tmp_path: Path) -> None:
    cell, speaker = make_cell(), Speaker(tmp_path)
    speaker.begin(cell, CPU)
    assert worker_notes.steps(tmp_path) == [Step(cell.label(), "start", 0, 1)]
    speaker.say("evaluate", 8, 8)
    assert worker_notes.steps(tmp_path) == [Step(cell.label(), "evaluate", 8, 8)]
    speaker.end()
    assert worker_notes.steps(tmp_path) == []


def test_steps_in_between_are_written_only_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    speaker, seen = Speaker(tmp_path), []
    for done in range(1, 5):
        speaker.say("evaluate", done, 9)
        seen.append(worker_notes.steps(tmp_path)[0].done)
        now[0] += SAY_EVERY_S / 2
    assert seen == [1, 1, 3, 3]


def test_a_note_of_a_process_that_is_gone_grows_stale(tmp_path: Path) -> None:
    gone = tmp_path / "999999999.json"
    gone.write_text(json.dumps([["a", "evaluate", 1, 2], time.time()]))
    assert len(worker_notes.steps(tmp_path)) == 1
    gone.write_text(json.dumps([["a", "evaluate", 1, 2], time.time() - STALE_S - 1]))
    assert worker_notes.steps(tmp_path) == []


def test_a_half_written_note_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / f"{os.getpid()}.json").write_text('[["a", "eva')
    assert worker_notes.steps(tmp_path) == []


def test_a_lost_worker_leaves_when_it_began_and_on_what(tmp_path: Path) -> None:
    cell = make_cell()
    Speaker(tmp_path).begin(cell, torch.device("cuda", 1))
    started, device = worker_notes.begun(tmp_path, cell)
    assert started.endswith("Z")
    assert device == torch.device("cuda", 1)
    assert worker_notes.begun(tmp_path, make_cell(seed=1))[1] == CPU
